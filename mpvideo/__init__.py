"""mpvideo: turn a KarrasUnet3D checkpoint into finished videos.

for video in mpvideo.generate("mine.safetensors", [mpvideo.Job(seed=0, class_index=3)]):
    video.frames, video.record()

`generate`, `Job`, `SamplingConfig` and the modules are loaded when they are first asked for: importing this package
takes no time.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mpvideo.api import generate
    from mpvideo.job import Job
    from mpvideo.sampling_config import SamplingConfig

__all__ = ["Job", "SamplingConfig", "__version__", "generate"]

__version__ = "0.1.0"

_HOMES = {"generate": "mpvideo.api", "Job": "mpvideo.job", "SamplingConfig": "mpvideo.sampling_config"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if not name.isidentifier() or name.startswith("_") or find_spec(f"{__name__}.{name}") is None:
        raise AttributeError(f"module 'mpvideo' has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
