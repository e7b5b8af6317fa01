"""What torch and the processor compute fast."""

import torch


def has_onednn() -> bool:
    """Whether torch has oneDNN."""
    return bool(torch._C._has_mkldnn)


def onednn_bfloat16() -> bool:
    """Whether torch has oneDNN, and the processor what oneDNN wants for bfloat16 (on x86 AVX-512)."""
    return has_onednn() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def bfloat16_by_vectors() -> bool:
    """Whether the processor multiplies bfloat16 in vectors of AVX-512, and not in matrix units (AMX)."""
    return torch.cpu._is_avx512_bf16_supported() and not torch.cpu._is_amx_tile_supported()
