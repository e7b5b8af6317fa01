"""Guidance: on past the denoiser's estimate, away from that of a worse one.

Letters: B samples of a batch, K of them guided, C channels, T frames, H W height and width. As in
`mpvideo.diffusion.denoiser`, nothing depends on the axes behind B.
"""

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from mpvideo.checks import check_apg, check_guidance_interval
from mpvideo.diffusion.denoiser import EDMDenoiser, preconditioning


@dataclass(frozen=True, kw_only=True, eq=False)
class Guidance:
    """How strong guidance is, where it acts, and how the two estimates are put together.

    D = D_second + strength * (D_main - D_second) (arXiv 2207.12598, with strength 1 + w for its w). Adaptive projected
    guidance (arXiv 2410.02416, algorithm 1) bounds the difference of the two and weighs its part along D_main, which
    oversaturates; both over the whole of each sample. It is left as it is by default.

    Deviation: the reverse momentum of that algorithm is left out. It depends on the number of steps.

    Outside of an interval there is no guidance, or with `hold` the difference as it was last. What the branches differ
    in changes little from one high noise level to the next, and counts for less and less at low ones. (The past as a
    stand-in for the second branch: LinearAG of arXiv 2312.12487, which fits weights for it; here they are c_out.)

    Attributes:
        strength: one, or (B,) of them; 1 means none, and the second branch of such a sample is not evaluated.
        interval: lowest and highest noise level of guidance, both included (arXiv 2404.07724, eq. 6, which leaves out
            the lowest); None for all levels. At others the second branch is not evaluated, and there is no guidance,
            or such as `hold` says.
        hold: whether outside of the interval guidance goes on with the difference of the two as it was last:
            D_second = D_main - c_out(sigma) / c_out(sigma_last) * (D_main - D_second)_last, by the main network's
            c_out. The second branch is then evaluated at the first noise level as well, so that there is one.
        apg_eta: weight of the part of the difference that lies along D_main; 1 leaves it, 0 takes it away.
        apg_norm: greatest L2 norm of the difference of a sample, greater ones are scaled down to it; None for no bound.

    Raises:
        ValueError: an attribute is out of range.
    """

    strength: float | Tensor = 1.0
    interval: tuple[float, float] | None = None
    hold: bool = False
    apg_eta: float = 1.0
    apg_norm: float | None = None

    def __post_init__(self) -> None:
        strength = torch.as_tensor(self.strength)
        if strength.ndim > 1:
            raise ValueError(f"strength must be a number or have the shape (B,), got {tuple(strength.shape)}")
        if not bool(strength.isfinite().all()):
            raise ValueError(f"strength must be finite, got {self.strength}")
        if self.interval is not None:
            check_guidance_interval("interval", self.interval)
        check_apg(self.apg_eta, self.apg_norm)

    @property
    def holds(self) -> bool:
        """Whether there is anything to hold, and a place outside of the interval for it."""
        return self.hold and self.interval is not None

    def covers(self, sigma: float) -> bool:
        """Whether a noise level lies in the interval."""
        return self.interval is None or self.interval[0] <= sigma <= self.interval[1]

    def evaluated(self, sigmas: Sequence[float]) -> list[bool]:
        """Whether the second branch is evaluated, at each noise level of a sampling from its beginning."""
        return [self.covers(sigma) or (self.holds and not index) for index, sigma in enumerate(sigmas)]

    def combined(self, main: Tensor, second: Tensor, strength: float | Tensor) -> Tensor:
        """One estimate from the two (K, ...) of the same samples; `strength` broadcasts against them."""
        if self.apg_eta == 1 and self.apg_norm is None:
            return torch.lerp(second, main, strength)  # exact at 0, where the second counts alone
        difference, axes = main - second, tuple(range(1, main.ndim))
        if self.apg_norm is not None:
            norm = torch.linalg.vector_norm(difference, dim=axes, keepdim=True)
            difference = difference * (self.apg_norm / norm).clamp(max=1.0)
        if self.apg_eta != 1:
            square = main.square().sum(axes, keepdim=True).clamp(min=torch.finfo(main.dtype).tiny)
            along = (difference * main).sum(axes, keepdim=True) / square * main
            difference = difference + (self.apg_eta - 1) * along
        return main + (strength - 1) * difference


class Branches(NamedTuple):
    """What each branch said last: the state of a `GuidedDenoiser` that is self-conditioned or holds its guidance.

    Attributes:
        main: its estimate, (B, C, T, H, W); None for a network without self-conditioning.
        second: its estimate, (K, C, T, H, W); None for such a network, and until its first evaluation.
        difference: (D_main - D_second) / c_out as they were last evaluated together, (K, C, T, H, W); None until then,
            and where nothing is held.
    """

    main: Tensor | None = None
    second: Tensor | None = None
    difference: Tensor | None = None


@dataclass(frozen=True, eq=False)
class GuidedDenoiser:
    """D(x; sigma) under guidance: a `Denoiser[Branches]` for the samplers.

    The main branch sees the classes. Without `guide`, the second is the same network with the zero label, which means
    no class (classifier-free guidance, arXiv 2207.12598): both are then one batch of B + K, the main branch first. With
    `guide`, the second is that network with the same classes (autoguidance, arXiv 2406.02507): a worse one, smaller or
    less trained, whose faults the difference shows.

    Each self-conditioned branch keeps its own last estimate. One that has none yet, because its interval begins
    later, starts at zeros, as every branch does; one that was left out for a while goes on from its last.

    Attributes:
        main: the denoiser. Classifier-free guidance needs rows as its labels (`class_rows`), because "no class" has no
            integer.
        guidance: how strong, and where.
        guide: the denoiser of a second network, of the same data and classes, with labels of its own: rows of a blend
            of classes differ from network to network (`blended_rows`).
        rows: which samples are guided: those whose strength is not 1.
        second: what the second branch is evaluated by: without `guide`, the denoiser of both branches; None where no
            sample is guided.

    Raises:
        ValueError: classifier-free guidance is asked for without rows of labels, or the strengths are not as many.
    """

    main: EDMDenoiser
    guidance: Guidance = field(default_factory=Guidance)
    _: KW_ONLY
    guide: EDMDenoiser | None = None
    rows: Tensor | slice = field(init=False)
    second: EDMDenoiser | None = field(init=False)

    def __post_init__(self) -> None:
        # Decided once: to ask a tensor on an accelerator at every evaluation would wait for it each time.
        guided = torch.as_tensor(self.guidance.strength) != 1
        some = bool(guided.any())
        rows = guided.nonzero().squeeze(1) if some and not bool(guided.all()) else slice(None if some else 0)
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "second", self._second() if some else None)

    def _second(self) -> EDMDenoiser:
        labels, strength = self.main.class_labels, self.guidance.strength
        if labels is not None and isinstance(strength, Tensor) and strength.shape not in ((), (len(labels),)):
            raise ValueError(f"strength must have the shape () or {(len(labels),)}, got {tuple(strength.shape)}")
        if self.guide is not None:
            its = self.guide.class_labels
            return replace(self.guide, class_labels=None if its is None else its[self._on(its)])
        if labels is None:
            raise ValueError(f"strength must be 1 without class_labels and guide, got {strength}")
        if not labels.is_floating_point():
            raise ValueError(
                "class_labels must be float rows (B, num_classes) under guidance (see class_rows), "
                f"got {labels.dtype} of shape {tuple(labels.shape)}"
            )
        return replace(self.main, class_labels=torch.cat((labels, torch.zeros_like(labels[self._on(labels)]))))

    def acts_at(self, sigma: float, state: Branches | None = None) -> bool:
        """Whether the second branch is evaluated in a call at a noise level with this state."""
        if self.second is None:
            return False
        missing = self.guidance.holds and (state is None or state.difference is None)
        return missing or self.guidance.covers(sigma)

    def passes_at(self, sigma: float, samples: int, state: Branches | None = None) -> int:
        """How many samples go through a network in a call with these arguments: of B samples, B or B + K."""
        if not self.acts_at(sigma, state):
            return samples
        return samples + (samples if isinstance(self.rows, slice) else len(self.rows))

    def denoisers(self, sigmas: Sequence[float]) -> list[tuple[EDMDenoiser, list[float]]]:
        """Which denoiser, `main` or `second`, is evaluated at which noise levels, of all of a sampling in its order."""
        acts = self.guidance.evaluated(sigmas) if self.second is not None else [False] * len(sigmas)
        on = [sigma for sigma, both in zip(sigmas, acts, strict=True) if both]
        alone = [sigma for sigma, both in zip(sigmas, acts, strict=True) if self.guide is not None or not both]
        pairs = ((self.main, alone), (self.second, on))
        return [
            (denoiser, list(dict.fromkeys(levels))) for denoiser, levels in pairs if denoiser is not None and levels
        ]

    def __call__(self, x: Tensor, sigma: float, state: Branches | None = None) -> tuple[Tensor, Branches | None]:
        """Evaluates the network once, for all branches together; with `guide` also that one.

        Args:
            x: (B, C, T, H, W), data plus noise of standard deviation sigma; float32 or float64.
            sigma: the noise level, above 0.
            state: what the previous call returned, or None.

        Returns:
            D(x; sigma), of the shape, dtype and device of x; and the state, None where nothing has to be remembered.

        Raises:
            ValueError: sigma, the labels or the state do not fit x.
        """
        before = state or Branches()
        rows = self._on(x)
        if self.second is None or not self.acts_at(sigma, state):
            main, main_state = self.main(x, sigma, before.main)
            after = before._replace(main=main_state)
            if before.difference is None:
                return main, _remembered(after)
            return self._combined(main, main[rows] - self._c_out(sigma) * before.difference, rows), after
        guided = x[rows]
        if self.guide is not None:
            main, main_state = self.main(x, sigma, before.main)
            second, second_state = self.second(guided, sigma, before.second)
            after = Branches(main_state, second_state)
        else:
            branches, _ = self.second(torch.cat((x, guided)), sigma, self._self_cond(before, x, guided))
            main, second = torch.split(branches, [len(x), len(guided)])
            after = Branches(main, second) if self.main.self_condition else Branches()
        if self.guidance.holds:
            after = after._replace(difference=(main[rows] - second) / self._c_out(sigma))
        return self._combined(main, second, rows), _remembered(after)

    def _c_out(self, sigma: float) -> float:
        """What an estimate changes by where the raw network's output changes by 1."""
        level = torch.tensor(sigma, dtype=torch.float64)
        return preconditioning(level, self.main.sigma_data)[1].item()

    def _combined(self, main: Tensor, second: Tensor, rows: Tensor | slice) -> Tensor:
        """The estimate that both branches make, and that of the main branch where there is no guidance."""
        guided = self.guidance.combined(main[rows], second, self._strength(main))
        if self.main.clamp:
            guided = guided.clamp(-1, 1)
        return guided if isinstance(rows, slice) else main.index_copy(0, rows, guided)

    def _self_cond(self, before: Branches, x: Tensor, guided: Tensor) -> Tensor | None:
        """The last estimates of both branches, zeros for one that has none."""
        if before.main is None and before.second is None:
            return None
        pairs = ((before.main, x), (before.second, guided))
        return torch.cat([torch.zeros_like(like) if last is None else last for last, like in pairs])

    def _strength(self, x: Tensor) -> float | Tensor:
        """The strengths of the guided samples, ready to broadcast against them."""
        strength = self.guidance.strength
        if not isinstance(strength, Tensor):
            return strength
        strength = strength.to(x.dtype).to(x.device).expand(len(x))  # the dtype first: MPS cannot hold float64
        return strength[self._on(x)].view(-1, *[1] * (x.ndim - 1))

    def _on(self, x: Tensor) -> Tensor | slice:
        """The guided samples, as an index on the device of x."""
        return self.rows if isinstance(self.rows, slice) else self.rows.to(x.device)


def _remembered(branches: Branches) -> Branches | None:
    return None if all(part is None for part in branches) else branches
