"""mpvideo: turn a KarrasUnet3D checkpoint into finished videos.

for video in mpvideo.generate("mine.safetensors", [mpvideo.Job(seed=0, class_index=3)]):
    video.frames, video.record()

`generate`, `Job` and `SamplingConfig` are loaded when they are first asked for: importing this package takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpvideo.api import generate
    from mpvideo.job import Job
    from mpvideo.sampling_config import SamplingConfig

__all__ = ["Job", "SamplingConfig", "__version__", "generate"]

__version__ = "0.1.0"

_HOMES = {"generate": "mpvideo.api", "Job": "mpvideo.job", "SamplingConfig": "mpvideo.sampling_config"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mpvideo' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
