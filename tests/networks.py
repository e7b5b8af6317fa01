"""The tiny network of the tests, and the configurations that a network may have."""

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from mpvideo.config import ModelConfig
from mpvideo.nn import KarrasUnet3D

TINY: dict[str, Any] = {
    "image_size": 8,
    "frames": 4,
    "dim": 8,
    "dim_max": 12,
    "num_classes": 5,
    "channels": 2,
    "num_downsamples": 2,
    "num_blocks_per_stage": 1,
    "downsample_types": ("all", "image"),
    "attn_res": (4, 2),
    "fourier_dim": 8,
    "attn_dim_head": 5,  # heads * dim_head is 10 and 15, beside widths of 8 and 12
    "dropout": 0.0,
}
TINY_SHAPE = (2, 4, 8, 8)


def tiny_network(*, gain: float | None = 0.5, seed: int = 0, **overrides: Any) -> KarrasUnet3D:
    """A seeded network in evaluation mode; all its gains at `gain`, or untrained if None."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = KarrasUnet3D(**{**TINY, **overrides})
    if gain is not None:
        with torch.no_grad():
            for name, parameter in net.named_parameters():
                if name.endswith("gain"):
                    parameter.fill_(gain)
    return net.eval()


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal numbers, always the same ones."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@st.composite
def model_configs(draw: st.DrawFn) -> ModelConfig:
    """Any legal architecture that is small enough to be built."""
    S = draw(st.integers(0, 3))
    words = st.sampled_from(["all", "image", "frame"])
    types = draw(words | st.tuples(*[words] * S))
    each = types if isinstance(types, tuple) else (types,) * S
    blocks = st.integers(1, 2)
    lists = st.tuples(*[blocks] * (S + 1))
    if S:
        lists |= st.tuples(*[blocks] * S)
    size = draw(st.integers(1, 2)) * 2 ** sum(word != "frame" for word in each)
    balance = st.floats(0, 1)
    return ModelConfig(
        image_size=size,
        frames=draw(st.integers(1, 3)) * 2 ** sum(word != "image" for word in each),
        dim=draw(st.integers(1, 9)),
        dim_max=draw(st.integers(1, 24)),
        num_classes=draw(st.none() | st.integers(1, 9)),
        channels=draw(st.integers(1, 4)),
        num_downsamples=S,
        num_blocks_per_stage=draw(blocks | lists),
        downsample_types=types,
        attn_res=tuple(draw(st.lists(st.sampled_from([size, max(size // 2, 1), max(size // 4, 1)]), unique=True))),
        fourier_dim=2 * draw(st.integers(1, 8)),
        attn_dim_head=draw(st.integers(1, 16)),
        mp_cat_t=draw(balance),
        mp_add_emb_t=draw(balance),
        attn_res_mp_add_t=draw(balance),
        dropout=draw(st.floats(0, 0.99)),
        self_condition=draw(st.booleans()),
        factorize_space_time_attn=draw(st.booleans()),
    )


def rms(x: Tensor) -> float:
    """Root mean square."""
    return x.double().square().mean().sqrt().item()
