"""What the user names as data: the menagerie, or a folder."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mpvideo.config import SamplingConfig
from mpvideo.training import Say
from mpvideo.training.cache import default_cache
from mpvideo.training.data import Dataset
from mpvideo.training.folder import ClipFormat, open_folder
from mpvideo.training.world import MenagerieData


@dataclass(frozen=True, kw_only=True)
class Source:
    """Data, and what goes with them.

    Attributes:
        data: the samples.
        record: what they are, for the run's record.
        description: the same in a few words, for people.
        sampling: settings to sample a network with that was trained on them.
        title, license: of such a checkpoint.
    """

    data: Dataset
    record: dict[str, Any]
    description: str
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    title: str | None = None
    license: str | None = None


def source_settings(name: str, clip: ClipFormat) -> dict[str, Any]:
    """What of a source's record is known before anything is decoded; arguments as of `open_source`."""
    if name == "menagerie":
        return {"data": name}
    return {"data": Path(name).resolve().name, "size": clip.size, "frames": clip.frames, "stride": clip.stride}


def open_source(name: str, clip: ClipFormat, *, cache: Path | None, seed: int, say: Say) -> Source:
    """Opens data by name.

    Args:
        name: 'menagerie', or a folder.
        clip: how clips are cut from a folder's videos; the menagerie's are what they are.
        cache: where a folder's decoded videos are kept, or None for the default place.
        seed: of the order of a folder's clips.
        say: told how decoding goes.

    Raises:
        UsageError: the folder has no usable videos.
        OutputError: the cache cannot be written.
    """
    if name == "menagerie":
        return Source(
            data=MenagerieData(),
            record=source_settings(name, clip),
            description="the menagerie: endless renderings of 1,000 classes",
            sampling=SamplingConfig(guidance=2.0),
            title="Menagerie: 1,000 classes of small animals, coats and motions",
            license="MIT",
        )
    data = open_folder(Path(name), cache or default_cache(), clip, seed=seed, say=say)
    return Source(
        data=data,
        record={**source_settings(name, clip), "videos": len(data), "fingerprint": data.fingerprint},
        description=data.description,
    )
