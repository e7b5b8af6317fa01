"""The denoiser D(x; sigma): a raw network with EDM's preconditioning, self-conditioning and guidance around it.

Letters: B batch, C channels, T frames, H W height and width. Nothing depends on the axes behind B, so that images
(B, C, H, W) pass as well.
"""

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
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


@dataclass(frozen=True, eq=False)
class EDMDenoiser:
    """D(x; sigma) of a raw network: a `Denoiser[Tensor]` for the samplers, and differentiable for training.

    Preconditioning: EDM, arXiv 2206.00364, table 1. Classifier-free guidance (arXiv 2207.12598) with the zero label:
    D = D_uncond + guidance * (D_cond - D_uncond), both branches in one batch of 2B, the conditional half first.
    Self-conditioning (arXiv 2208.04202): the network sees the previous estimate, zeros at first.

    Deviation: the guidance paper writes (1 + w) D_cond - w D_uncond; `guidance` is 1 + w, so that 1 means none.

    Attributes:
        net: the raw network; self_cond is passed to it only with `self_condition`.
        sigma_data: standard deviation of the training data.
        clamp: whether every estimate, of each branch and of both together, is clamped to [-1, 1].
        self_condition: whether the network takes its previous estimate. Under guidance each branch keeps its own.
        class_labels: (B,) int64, or (B, num_classes) float rows (one-hot, a blend, or zeros for no class); None for a
            network without classes. Guidance needs rows (`class_rows`), because "no class" has no integer.
        guidance: one strength or (B,) of them. Where all are 1 the unconditional branch is not evaluated.
        dtype: what the network's input is cast to; its output is cast back. None for the dtype of x. The noise
            embedding stays in float32 or better: bfloat16 could not tell neighbouring noise levels apart.
        guided: whether both branches are evaluated; it follows from guidance.
        branch_labels: class_labels of the network's whole batch: of both branches, where both are evaluated.

    Raises:
        ValueError: an attribute is out of range, or guidance is asked for without rows of labels.
    """

    net: Network
    _: KW_ONLY
    sigma_data: float = 0.5
    clamp: bool = False
    self_condition: bool = False
    class_labels: Tensor | None = None
    guidance: float | Tensor = 1.0
    dtype: torch.dtype | None = None
    guided: bool = field(init=False)
    branch_labels: Tensor | None = field(init=False)

    def __post_init__(self) -> None:
        if not 0 < self.sigma_data < math.inf:
            raise ValueError(f"sigma_data must be finite and greater than 0, got {self.sigma_data}")
        guidance = torch.as_tensor(self.guidance)
        if guidance.ndim > 1:
            raise ValueError(f"guidance must be a number or have the shape (B,), got {tuple(guidance.shape)}")
        if not bool(guidance.isfinite().all()):
            raise ValueError(f"guidance must be finite, got {self.guidance}")
        # Decided once: to ask a tensor on an accelerator at every evaluation would wait for it each time.
        object.__setattr__(self, "guided", bool((guidance != 1).any()))
        object.__setattr__(self, "branch_labels", self.class_labels)
        if not self.guided:
            return
        if self.class_labels is None:
            raise ValueError(f"guidance must be 1 without class_labels, got {self.guidance}")
        if not self.class_labels.is_floating_point():
            raise ValueError(
                "class_labels must be float rows (B, num_classes) under guidance (see class_rows), "
                f"got {self.class_labels.dtype} of shape {tuple(self.class_labels.shape)}"
            )
        both = torch.cat((self.class_labels, torch.zeros_like(self.class_labels)))
        object.__setattr__(self, "branch_labels", both)

    def __call__(self, x: Tensor, sigma: float | Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Evaluates the network once.

        Args:
            x: (B, C, T, H, W), data plus noise of standard deviation sigma; float32 or float64.
            sigma: the noise level, above 0: a float (the coefficients are then computed in float64 on the CPU), or a
                tensor of no or one dimension (B,).
            state: what the previous call returned, or None. In training, the estimate to condition on.

        Returns:
            D(x; sigma), of the shape, dtype and device of x; and the state: the estimates of the network's batch
            (B, or 2B under guidance) with `self_condition`, otherwise None.

        Raises:
            ValueError: sigma, the labels or the state do not fit x.
        """
        self._check(x, sigma, state)
        if not self.guided:
            denoised = self._estimate(x, sigma, state)
            return denoised, denoised if self.self_condition else None
        if isinstance(sigma, Tensor):
            sigma = sigma.expand(len(x)).repeat(2)
        branches = self._estimate(torch.cat((x, x)), sigma, state)
        cond, uncond = branches.chunk(2)
        # lerp is exact at 0 and at 1: a sample that wants no guidance is not touched by its neighbours that do.
        denoised = self._clamped(torch.lerp(uncond, cond, self._strength(x)))
        return denoised, branches if self.self_condition else None

    def noise_embeddings(self, sigmas: Sequence[float]) -> Tensor:
        """The c_noise that the network is given at each of the noise levels: (N,) float32 on the CPU."""
        return preconditioning(torch.tensor(sigmas, dtype=torch.float64), self.sigma_data)[3].float()

    def _estimate(self, x: Tensor, sigma: float | Tensor, state: Tensor | None) -> Tensor:
        """One branch, or several stacked: c_skip x + c_out F(c_in x; c_noise)."""
        c_skip, c_out, c_in, c_noise = self._coefficients(x, sigma)
        dtype = self.dtype or x.dtype
        self_cond = None
        if self.self_condition:
            self_cond = (torch.zeros_like(x) if state is None else state).to(dtype)
        out = self.net((c_in * x).to(dtype), c_noise, self_cond=self_cond, class_labels=self.branch_labels)
        return self._clamped(c_skip * x + c_out * out.to(x.dtype))

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

    def _clamped(self, denoised: Tensor) -> Tensor:
        return denoised.clamp(-1, 1) if self.clamp else denoised

    def _strength(self, x: Tensor) -> float | Tensor:
        """The guidance, ready to broadcast against x."""
        if not isinstance(self.guidance, Tensor):
            return self.guidance
        return self.guidance.to(x.dtype).to(x.device).expand(len(x)).view(-1, *[1] * (x.ndim - 1))

    def _check(self, x: Tensor, sigma: float | Tensor, state: Tensor | None) -> None:
        B = len(x)
        if not isinstance(sigma, Tensor):
            if not 0 < sigma < math.inf:
                raise ValueError(f"sigma must be finite and greater than 0, got {sigma}")
        elif sigma.shape not in ((), (B,)):
            raise ValueError(f"sigma must have the shape () or {(B,)}, got {tuple(sigma.shape)}")
        if self.class_labels is not None and len(self.class_labels) != B:
            raise ValueError(f"class_labels must have {B} rows, one for each sample, got {len(self.class_labels)}")
        if isinstance(self.guidance, Tensor) and self.guidance.shape not in ((), (B,)):
            raise ValueError(f"guidance must have the shape () or {(B,)}, got {tuple(self.guidance.shape)}")
        wanted = (2 * B if self.guided else B, *x.shape[1:])
        if self.self_condition and state is not None and state.shape != wanted:
            raise ValueError(f"state must have the shape {wanted}, got {tuple(state.shape)}")
