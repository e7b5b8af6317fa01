"""Feature networks of the tests, as TorchScript files."""

import warnings
from pathlib import Path

import torch
from torch import Tensor, nn


class Means(nn.Module):
    """The mean of each channel and the brightness of the first frame: four features."""

    def forward(self, video: Tensor) -> Tensor:
        return torch.cat((video.mean((2, 3, 4)), video[:, :, 0].mean((1, 2, 3))[:, None]), 1)


class LikeI3D(nn.Module):
    """The flags of the field's I3D; tells by its features which of them were on."""

    def forward(
        self, video: Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False
    ) -> Tensor:
        flags = torch.tensor([[float(rescale), float(resize), float(return_features)]])
        return torch.cat((video.mean((2, 3, 4)), flags), 1)


class Flat(nn.Module):
    """Gives no feature per video."""

    def forward(self, video: Tensor) -> Tensor:
        return video.flatten()


class Picky(nn.Module):
    """Takes 16 pixels only."""

    def forward(self, video: Tensor) -> Tensor:
        return video.view(1, 3, -1, 16, 16).mean((2, 3, 4))


class Undefined(nn.Module):
    """Gives no number."""

    def forward(self, video: Tensor) -> Tensor:
        return video.mean((2, 3, 4)) * float("nan")


def save_network(path: Path, net: nn.Module) -> Path:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.")
        torch.jit.save(torch.jit.script(net), path)  # type: ignore[no-untyped-call]
    return path
