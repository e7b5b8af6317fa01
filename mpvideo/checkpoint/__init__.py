"""Checkpoints: safetensors files that say themselves what they are.

What needs no torch is importable from here. The weights are read by `mpvideo.checkpoint.load` and written by
`mpvideo.checkpoint.save`, which import it:

    checkpoint = open_checkpoint(path)  # everything checked but the weights
    tensors, sha256 = load_tensors(checkpoint.header)  # from mpvideo.checkpoint.load
"""

from mpvideo.checkpoint.container import TensorInfo
from mpvideo.checkpoint.fit import find_problems
from mpvideo.checkpoint.header import Header, read_header
from mpvideo.checkpoint.opening import Checkpoint, bundled_checkpoint, open_checkpoint
from mpvideo.checkpoint.resolving import resolve_config

__all__ = [
    "Checkpoint",
    "Header",
    "TensorInfo",
    "bundled_checkpoint",
    "find_problems",
    "open_checkpoint",
    "read_header",
    "resolve_config",
]
