"""Attention by parts, against softmax written out in float64."""

import math

import pytest
import torch

from mpvideo.nn import attention
from mpvideo.nn.attention import cosine_attention
from mpvideo.nn.memory import FOR_PASSES
from tests.networks import randn
from tests.nn.test_golden import relative_error


def directions(*shape: int, seed: int, length: float = 1.0) -> torch.Tensor:
    x = randn(*shape, seed=seed, dtype=torch.float64)
    return x * (length / x.norm(dim=-1, keepdim=True))


def tokens(*shape: int) -> list[torch.Tensor]:
    """Queries, keys and values of B, heads, N, M, D as a network has them: each head is a part of (B, N, heads, D)."""
    B, heads, N, M, D = shape
    lengths = ((N, 1.0), (M, math.sqrt(D)), (M, math.sqrt(D)))
    return [
        directions(B, count, heads, D, seed=seed, length=length).transpose(1, 2)
        for seed, (count, length) in enumerate(lengths)
    ]


def softmax_of_products(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    return (q.double() @ k.double().mT).softmax(-1) @ v.double()


SHAPES = [(1, 1, 1, 1, 1), (2, 3, 5, 9, 8), (1, 2, 33, 37, 16), (3, 4, 7, 3, 20), (2, 2, 64, 68, 64)]


@pytest.mark.parametrize("size", [1, 2**9, 2**22])  # a query of a head, some heads or queries, everything at a time
@pytest.mark.parametrize("shape", SHAPES)
def test_by_parts(shape, size, monkeypatch):
    """In float32, to see that it is right, and in bfloat16, to see that it is as right as can be."""
    monkeypatch.setattr(attention, "_BYTES", size)
    given = tokens(*shape)
    out = attention._by_parts(*(x.float() for x in given))
    assert relative_error(out.double(), softmax_of_products(*given)) <= 1e-6
    monkeypatch.setattr(attention, "bfloat16_by_vectors", lambda: True)
    rounded = [x.bfloat16() for x in given]
    out = cosine_attention(*rounded)
    assert relative_error(out.double(), softmax_of_products(*rounded)) <= 1e-2
    B, heads, N, _, D = shape
    assert out.dtype == torch.bfloat16
    assert out.shape == (B, heads, N, D)
    assert out.transpose(1, 2).is_contiguous()


def test_parts_are_small(monkeypatch):
    """However many tokens there are, no more weights are in memory than some megabytes, which sampling keeps."""
    largest = 0

    def exp_(weights):
        nonlocal largest
        largest = max(largest, weights.numel() * weights.element_size())
        return torch.exp(weights, out=weights)

    monkeypatch.setattr(torch.Tensor, "exp_", exp_)
    q, k, v = tokens(1, 2, 1500, 6000, 8)
    attention._by_parts(q.float(), k.float(), v.float())
    of_a_query = 6000 * 4
    assert 0 < largest < attention._BYTES + of_a_query < FOR_PASSES


@pytest.mark.parametrize(("count", "heads"), [(300, 7), (700, 3), (1000, 2), (1450, 1), (1800, 2)])
def test_heads_share_a_part_only_if_they_fit(monkeypatch, count, heads):
    """Else they come one by one, and of too long ones some queries at a time: every score once."""
    sizes = []

    def exp_(weights):
        sizes.append(weights.nbytes)
        return torch.exp(weights, out=weights)

    monkeypatch.setattr(torch.Tensor, "exp_", exp_)
    attention._by_parts(*(x.float() for x in tokens(2, heads, count, count, 4)))
    assert sum(sizes) == 2 * heads * count * count * 4
    assert max(sizes) <= attention._BYTES + count * 4


def test_widest_heads(monkeypatch):
    """The largest scores there are, alone or among others that are near, and the smallest."""
    monkeypatch.setattr(attention, "bfloat16_by_vectors", lambda: True)
    D = attention._WIDEST
    q = directions(1, 1, 1, D, seed=0)
    near = q + 0.5 * directions(1, 1, 260, D, seed=1)
    near *= math.sqrt(D) / near.norm(dim=-1, keepdim=True)
    values = randn(1, 1, 260, D, seed=2, dtype=torch.float64)
    out = cosine_attention(q.bfloat16(), near.bfloat16(), values.bfloat16())
    rounded = softmax_of_products(q.bfloat16(), near.bfloat16(), values.bfloat16())
    assert relative_error(out.double(), rounded) <= 1.5e-2
    k = torch.cat((q, -q), dim=2) * math.sqrt(D)
    v = torch.eye(2, dtype=torch.float64).repeat_interleave(D // 2, 1)[None, None]
    for keys in (k, k[:, :, :1], k[:, :, 1:]):
        values = v[:, :, : keys.shape[2]]
        out = cosine_attention(q.bfloat16(), keys.bfloat16(), values.bfloat16())
        assert relative_error(out.double(), softmax_of_products(q, keys, values)) <= 1e-2


@pytest.mark.parametrize(
    ("dtype", "by_vectors", "ours"),
    [(torch.bfloat16, True, True), (torch.bfloat16, False, False), (torch.float32, True, False)],
)
def test_where_it_is_used(dtype, by_vectors, ours, monkeypatch):
    used = []
    monkeypatch.setattr(attention, "bfloat16_by_vectors", lambda: by_vectors)
    monkeypatch.setattr(attention, "_by_parts", lambda q, k, v: used.append(True))
    cosine_attention(*(x.to(dtype) for x in tokens(1, 2, 4, 8, 8)))
    assert bool(used) == ours
