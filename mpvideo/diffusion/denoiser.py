"""The denoiser D(x; sigma): a raw network with EDM's preconditioning and self-conditioning around it.

Letters: B batch, C channels, T frames, H W height and width. Nothing depends on the axes behind B, so that images
(B, C, H, W) pass as well.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Protocol, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

State = TypeVar("State")


class Network(Protocol):
    """The raw network F of the preconditioning, such as `mpvideo.nn.KarrasUnet3D`."""

    def __call__(
        self, x: Tensor, time: Tensor, *, self_cond: Tensor | None = None, class_labels: Tensor | None = None
    ) -> Tensor:
        """Maps x (B, C, T, H, W) of unit variance at the noise embedding time (B,), on any device, to one like x."""
        ...


class Denoiser(Protocol[State]):
    """What a sampler drives: D(x; sigma), the expected clean video behind the noisy x.

    A denoiser keeps nothing between calls. What it wants to remember it returns as its state, which the sampler hands
    to the next call without looking inside; None stands for the first call. To count network evaluations, wrap it.
    """

    def __call__(self, x: Tensor, sigma: float, state: State | None, /) -> tuple[Tensor, State | None]:
        """Returns D(x; sigma), shaped like x, and the state for the next call."""
        ...


def preconditioning(sigma: Tensor, sigma_data: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Coefficients of D(x; sigma) = c_skip x + c_out F(c_in x; c_noise) (EDM, arXiv 2206.00364, eq. 7, table 1).

    They give the network's input and its training target unit variance when the data have the standard deviation
    `sigma_data`.

    Args:
        sigma: noise levels above 0, any shape, floating point.
        sigma_data: standard deviation of the training data, in the same units.

    Returns:
        c_skip, c_out, c_in, c_noise = ln(sigma) / 4: each of the shape, dtype and device of sigma.
    """
    variance = sigma**2 + sigma_data**2
    c_skip = sigma_data**2 / variance
    c_out = sigma * sigma_data / variance.sqrt()
    c_in = 1 / variance.sqrt()
    c_noise = sigma.log() / 4
    return c_skip, c_out, c_in, c_noise


def class_rows(class_labels: Tensor, num_classes: int) -> Tensor:
    """Labels as float rows, the form in which "no class" (all zeros) can be said: (B,) int64 -> (B, num_classes).

    Raises:
        ValueError: a label is not in 0 .. num_classes - 1.
    """
    if class_labels.numel() and not 0 <= int(class_labels.min()) <= int(class_labels.max()) < num_classes:
        raise ValueError(f"class_labels must be from 0 to {num_classes - 1}, got {class_labels.tolist()}")
    return F.one_hot(class_labels, num_classes).float()


def blended_rows(rows: Tensor, embed: Callable[[Tensor], Tensor]) -> Tensor:
    """Rows of labels in which a blend of classes has an embedding as long as theirs.

    The network adds the embeddings of noise level and class by weights that preserve magnitude if both have the usual
    one (EDM2, arXiv 2312.02696, eq. 88). A weighted mean of embeddings is shorter than they are, by how much depends on
    what they have in common; so each blend is scaled to the weighted mean of its classes' lengths.

    Args:
        rows: (B, num_classes) weights of the classes, each row summing up to 1.
        embed: labels (N, num_classes) to embeddings (N, E), linear.

    Returns:
        The rows; those of one class are left as they are, to the bit, and so are blends whose embeddings cancel out.
    """
    rows = rows.clone()
    for row in rows:
        classes = row.nonzero().squeeze(1)
        if len(classes) < 2:
            continue
        each = F.one_hot(classes, len(row)).to(row)
        length = embed(row.unsqueeze(0)).norm().to(row)  # the network may be on another device than the rows
        usual = row[classes] @ embed(each).norm(dim=1).to(row)
        if length > 1e-3 * usual:
            row *= usual / length
    return rows


@dataclass(frozen=True, eq=False)
class EDMDenoiser:
    """D(x; sigma) of a raw network: a `Denoiser[Tensor]` for the samplers, and differentiable for training.

    Preconditioning: EDM, arXiv 2206.00364, table 1. Self-conditioning (arXiv 2208.04202): the network sees the
    previous estimate, zeros at first. Guidance stands around it: `mpvideo.diffusion.guidance`.

    Attributes:
        net: the raw network; self_cond is passed to it only with `self_condition`.
        sigma_data: standard deviation of the training data.
        clamp: whether every estimate is clamped to [-1, 1].
        self_condition: whether the network takes its previous estimate.
        class_labels: (B,) int64, or (B, num_classes) float rows (one-hot, a blend, or zeros for no class); None for a
            network without classes.
        dtype: what the network's input is cast to; its output is cast back. None for the dtype of x. The noise
            embedding stays in float32 or better: bfloat16 could not tell neighbouring noise levels apart.

    Raises:
        ValueError: sigma_data is out of range.
    """

    net: Network
    _: KW_ONLY
    sigma_data: float = 0.5
    clamp: bool = False
    self_condition: bool = False
    class_labels: Tensor | None = None
    dtype: torch.dtype | None = None

    def __post_init__(self) -> None:
        if not 0 < self.sigma_data < math.inf:
            raise ValueError(f"sigma_data must be finite and greater than 0, got {self.sigma_data}")

    def __call__(self, x: Tensor, sigma: float | Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Evaluates the network once.

        Args:
            x: (B, C, T, H, W), data plus noise of standard deviation sigma; float32 or float64.
            sigma: the noise level, above 0: a float (the coefficients are then computed in float64 on the CPU), or a
                tensor of no or one dimension (B,).
            state: what the previous call returned, or None. In training, the estimate to condition on.

        Returns:
            D(x; sigma), of the shape, dtype and device of x; and the state: the same estimate with `self_condition`,
            otherwise None.

        Raises:
            ValueError: sigma, the labels or the state do not fit x.
        """
        self._check(x, sigma, state)
        c_skip, c_out, c_in, c_noise = self._coefficients(x, sigma)
        dtype = self.dtype or x.dtype
        self_cond = None
        if self.self_condition:
            self_cond = (torch.zeros_like(x) if state is None else state).to(dtype)
        out = self.net((c_in * x).to(dtype), c_noise, self_cond=self_cond, class_labels=self.class_labels)
        denoised = c_skip * x + c_out * out.to(x.dtype)
        if self.clamp:
            denoised = denoised.clamp(-1, 1)
        return denoised, denoised if self.self_condition else None

    def noise_embeddings(self, sigmas: Sequence[float]) -> Tensor:
        """The c_noise that the network is given at each of the noise levels: (N,) float32 on the CPU."""
        return preconditioning(torch.tensor(sigmas, dtype=torch.float64), self.sigma_data)[3].float()

    def _coefficients(
        self, x: Tensor, sigma: float | Tensor
    ) -> tuple[float | Tensor, float | Tensor, float | Tensor, Tensor]:
        """c_skip, c_out, c_in ready to multiply x with, and c_noise (B,): of a float, on the CPU."""
        time_dtype = torch.promote_types(x.dtype, torch.float32)
        if isinstance(sigma, Tensor):
            levels = sigma.to(time_dtype).to(x.device)  # the dtype first: MPS cannot hold float64
            c_skip, c_out, c_in, c_noise = preconditioning(levels.expand(len(x)), self.sigma_data)
            axes = (-1, *[1] * (x.ndim - 1))
            return c_skip.view(axes), c_out.view(axes), c_in.view(axes), c_noise
        # Python floats: MPS has no float64, and a scalar on an accelerator would be one more copy.
        level = torch.tensor(sigma, dtype=torch.float64)
        skip, out, in_, noise = (c.item() for c in preconditioning(level, self.sigma_data))
        return skip, out, in_, torch.full((len(x),), noise, dtype=time_dtype)

    def _check(self, x: Tensor, sigma: float | Tensor, state: Tensor | None) -> None:
        B = len(x)
        if not isinstance(sigma, Tensor):
            if not 0 < sigma < math.inf:
                raise ValueError(f"sigma must be finite and greater than 0, got {sigma}")
        elif sigma.shape not in ((), (B,)):
            raise ValueError(f"sigma must have the shape () or {(B,)}, got {tuple(sigma.shape)}")
        if self.class_labels is not None and len(self.class_labels) != B:
            raise ValueError(f"class_labels must have {B} rows, one for each sample, got {len(self.class_labels)}")
        if self.self_condition and state is not None and state.shape != x.shape:
            raise ValueError(f"state must have the shape {tuple(x.shape)}, got {tuple(state.shape)}")
