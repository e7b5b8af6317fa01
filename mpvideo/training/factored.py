"""A class embedding learned as a sum over factors, for classes that are combinations.

A one-hot table over 1,000 classes sees each of them rarely. Where a class is a combination, such as animal, coat and
motion, a table of each factor's values sees every value often; their sums are the full table.
"""

import math
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mpvideo.nn import KarrasUnet3D
from mpvideo.nn.layers import EPS, normalize


class FactoredClassEmbedding(nn.Module):
    """Stands in for a KarrasUnet3D's `to_class_emb` in training: (B, num_classes) -> (B, E).

    It keeps root mean square 1 over each row of the full table, as the network will when it holds that table.

    Args:
        sizes: number of values of each factor, the slowest first; num_classes is their product.
        dim_out: E.
    """

    design: Tensor

    def __init__(self, sizes: tuple[int, ...], dim_out: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(dim_out, sum(sizes)) / math.sqrt(len(sizes)))
        self.register_buffer("design", _design(sizes), persistent=False)

    def table(self) -> Tensor:
        """The full table (E, num_classes), the weight that `to_class_emb` is to hold; its rows have RMS 1."""
        return normalize(self.weight @ self.design)

    def forward(self, x: Tensor) -> Tensor:
        """Applies the full table to rows of labels scaled as `KarrasUnet3D` scales them."""
        if self.training:
            with torch.no_grad():
                full = self.weight @ self.design
                norm = torch.linalg.vector_norm(full, dim=1, keepdim=True).clamp(min=EPS)
                self.weight.mul_(math.sqrt(full.shape[1]) / norm)
        return F.linear(x, (self.table() / math.sqrt(self.design.shape[1])).to(x.dtype))


def full_table(weight: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """The full table (E, num_classes) of a factored weight (E, sum of sizes), rows at RMS 1, in the weight's dtype."""
    return normalize(weight @ _design(sizes).to(weight))


def _design(sizes: tuple[int, ...]) -> Tensor:
    """Which factors' values make up each class: zeros and ones, (sum of sizes, num_classes), float32."""
    rows = [
        torch.cat([F.one_hot(torch.tensor(value), size) for value, size in zip(values, sizes, strict=True)])
        for values in product(*map(range, sizes))
    ]
    return torch.stack(rows, dim=1).float()


def finished_weights(net: KarrasUnet3D) -> dict[str, Tensor]:
    """A network's weights as a checkpoint holds them: every tensor of its plain form, on the CPU.

    Args:
        net: the network, whose `to_class_emb` may be a `FactoredClassEmbedding`.
    """
    weights = {name: tensor.detach().cpu() for name, tensor in net.state_dict().items()}
    if isinstance(net.to_class_emb, FactoredClassEmbedding):
        weights["to_class_emb.weight"] = net.to_class_emb.table().detach().cpu()
    return weights
