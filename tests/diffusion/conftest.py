"""Closed-form denoisers, and small networks with the raw network's call."""

from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from mpvideo.diffusion import preconditioning


@dataclass
class GaussianDenoiser:
    """The exact D(x; sigma) for data N(mean, std**2), each element by itself, and the solution of its ODE.

    D = (std**2 x + sigma**2 mean) / (std**2 + sigma**2), so dx/dsigma = sigma (x - mean) / (std**2 + sigma**2), and
    x - mean grows as sqrt(std**2 + sigma**2).
    """

    std: Tensor
    mean: Tensor = field(default_factory=lambda: torch.zeros(()))

    def __call__(self, x: Tensor, sigma: float, state: None = None) -> tuple[Tensor, None]:
        return (self.std**2 * x + sigma**2 * self.mean) / (self.std**2 + sigma**2), None

    def solution(self, x: Tensor, sigma: float, sigma_end: float) -> Tensor:
        """Where the ODE takes x from sigma to sigma_end."""
        return self.mean + (x - self.mean) * ((self.std**2 + sigma_end**2) / (self.std**2 + sigma**2)).sqrt()


@dataclass
class GaussianNet:
    """The raw network whose preconditioned form is the exact denoiser of N(mean, std**2) for each class.

    Attributes:
        std: of all classes.
        means: (num_classes, ...), of each.
        no_class: the mean that the zero label stands for.
    """

    std: float
    means: Tensor
    no_class: Tensor
    sigma_data: float = 0.5

    def denoiser(self, mean: Tensor) -> GaussianDenoiser:
        """The closed form for one mean."""
        return GaussianDenoiser(std=torch.tensor(self.std, dtype=torch.float64), mean=mean)

    def __call__(self, x: Tensor, time: Tensor, *, self_cond=None, class_labels: Tensor) -> Tensor:
        sigma = (4 * time).exp().view(-1, *[1] * (x.ndim - 1))
        c_skip, c_out, c_in, _ = preconditioning(sigma, self.sigma_data)
        offsets = (self.means - self.no_class).flatten(1)
        mean = self.no_class + (class_labels.to(x.dtype) @ offsets).view(-1, *self.no_class.shape)
        denoised = (self.std**2 * x / c_in + sigma**2 * mean) / (self.std**2 + sigma**2)
        return (denoised - c_skip * x / c_in) / c_out


class ConvNet(nn.Module):
    """A small network that looks at all its inputs, and across space and time."""

    def __init__(self, channels: int = 2, num_classes: int = 5, width: int = 8) -> None:
        super().__init__()
        self.stem = nn.Conv3d(2 * channels, width, 3, padding=1)
        self.time = nn.Linear(1, width)
        self.classes = nn.Linear(num_classes, width, bias=False)
        self.head = nn.Conv3d(width, channels, 3, padding=1)

    def forward(
        self, x: Tensor, time: Tensor, self_cond: Tensor | None = None, class_labels: Tensor | None = None
    ) -> Tensor:
        self_cond = torch.zeros_like(x) if self_cond is None else self_cond
        emb = self.time(time.to(x.dtype)[:, None])
        if class_labels is not None:
            emb = emb + self.classes(class_labels.to(x.dtype))
        y = self.stem(torch.cat((x, self_cond), dim=1)) + emb[:, :, None, None, None]
        return self.head(torch.nn.functional.silu(y))


@dataclass
class Call:
    """What one evaluation of the network was given, and gave."""

    x: Tensor
    time: Tensor
    self_cond: Tensor | None
    class_labels: Tensor | None
    out: Tensor


class RecordingNet:
    """Another network (by default one that mixes all its inputs), with a record of its calls."""

    def __init__(self, net=None) -> None:
        self.net = net or self.mix
        self.calls: list[Call] = []

    @staticmethod
    def mix(x: Tensor, time: Tensor, self_cond: Tensor | None = None, class_labels: Tensor | None = None) -> Tensor:
        out = 0.5 * x + time.to(x.dtype).view(-1, *[1] * (x.ndim - 1))
        if self_cond is not None:
            out = out + 0.3 * self_cond
        if class_labels is not None and class_labels.is_floating_point():
            weights = torch.arange(1.0, class_labels.shape[1] + 1).to(class_labels)
            out = out + (class_labels @ weights).to(x.dtype).view(-1, *[1] * (x.ndim - 1))
        return torch.tanh(out)

    def __call__(self, x: Tensor, time: Tensor, *, self_cond=None, class_labels=None) -> Tensor:
        out = self.net(x, time, self_cond=self_cond, class_labels=class_labels)
        self.calls.append(Call(x, time, self_cond, class_labels, out))
        return out


@pytest.fixture
def conv_net() -> ConvNet:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ConvNet().eval().requires_grad_(False)


@pytest.fixture
def recording_net() -> RecordingNet:
    return RecordingNet()


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
