"""Attention of normalised queries and keys.

Letters: B batch, N queries, M keys and values, D head width.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from mpvideo.nn.processor import bfloat16_by_vectors

_BYTES = 3 * 2**20
"""Of the weights that are in memory at once: few, so that they stay in a cache, and in blocks that are kept for the
next ones (`mpvideo.nn.memory`)."""

_COLUMNS = 16
"""Of a product, which oneDNN computes at once with AVX-512."""

_WIDEST = 64
"""D up to which bfloat16 rounds scores, at most sqrt(D), finely enough: the exponential of the largest to 1.6 %."""


def cosine_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T) v, of queries no longer than 1 and keys no longer than sqrt(D).

    Args:
        q: (B, heads, N, D).
        k, v: (B, heads, M, D); neither N nor M is 0.

    Returns:
        (B, heads, N, D), laid out as (B, N, heads, D).
    """
    if not torch.compiler.is_compiling() and _by_parts_is_faster(q):
        return _by_parts(q, k, v)
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)


def _by_parts_is_faster(q: Tensor) -> bool:
    in_vectors = q.dtype == torch.bfloat16 and q.device.type == "cpu" and bfloat16_by_vectors()
    return in_vectors and q.shape[-1] <= _WIDEST


def _by_parts(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """As `cosine_attention`, for which the fused kernel takes about twice as long in bfloat16.

    No score is above sqrt(D), so that its exponential needs no maximum to be subtracted before; the sum of a query's
    exponentials is the product with a column of ones beside the values.
    """
    B, heads, N, D = q.shape
    result = q.new_empty(B, N, heads, D).transpose(1, 2)
    # Some clips at a time, or some heads of one, or some queries of one head.
    of_head = N * k.shape[2] * k.element_size() / _BYTES
    at_once, pieces = max(1, math.floor(1 / of_head)), math.ceil(of_head)
    parts, parts_of_clip = max(1, math.ceil(B / max(1, at_once // heads))), math.ceil(heads / at_once)
    for of_clips in zip(*(torch.chunk(tensor, parts) for tensor in (q, k, v, result)), strict=True):
        for part in zip(*(torch.chunk(tensor, parts_of_clip, dim=1) for tensor in of_clips), strict=True):
            queries, keys, values, places = part
            keys = keys.flatten(0, 1).contiguous().mT
            values = F.pad(values, (0, _COLUMNS - D % _COLUMNS), value=1.0).flatten(0, 1)
            for few, place in zip(queries.chunk(pieces, dim=2), places.chunk(pieces, dim=2), strict=True):
                weights = torch.bmm(few.flatten(0, 1), keys).exp_()
                sums = torch.bmm(weights, values).view(*few.shape[:3], -1)
                del weights  # before there are others
                torch.div(sums[..., :D], sums[..., D : D + 1], out=place)
    return result
