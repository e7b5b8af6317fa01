"""From a path to a checked config and tensors that fit it.

Only the standard library is imported, so everything that can be wrong with a checkpoint, short of its weights, is known
before torch is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpvideo.checkpoint.fit import find_problems
from mpvideo.checkpoint.header import Header, read_header
from mpvideo.checkpoint.resolving import resolve_config
from mpvideo.config import CheckpointConfig
from mpvideo.errors import CheckpointError
from mpvideo.text import printable


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose config is known and whose tensors fit it; its weights have not been read.

    Attributes:
        header: where its tensors lie.
        config: what it is.
    """

    header: Header
    config: CheckpointConfig

    @property
    def path(self) -> Path:
        """The file or folder that was asked for."""
        return self.header.path

    @property
    def name(self) -> str:
        """Its last part only, fit for a record that others will read."""
        return self.header.name


def open_checkpoint(
    path: str | Path, *, config_file: str | Path | None = None, overrides: Mapping[str, Any] | None = None
) -> Checkpoint:
    """Reads and checks everything about a checkpoint except its weights.

    Args: as for `read_header` and `resolve_config`.

    Raises:
        CheckpointError: it cannot be read, its config is incomplete or wrong, or its tensors do not fit the config.
    """
    header = read_header(path)
    config = resolve_config(header, config_file=config_file, overrides=overrides)
    if problems := find_problems(header, config):
        raise CheckpointError(
            f"{printable(header.path)} does not fit its config: {'; '.join(problems)}",
            hint="`mpvideo inspect` with --tensors lists what the file holds.",
        )
    return Checkpoint(header, config)


def bundled_checkpoint() -> Path:
    """Path of the weights that come with the package.

    Raises:
        CheckpointError: this installation lacks them.
    """
    path = Path(__file__).parents[1] / "assets" / "menagerie.safetensors"
    if not path.is_file():
        raise CheckpointError(
            f"this installation of mpvideo lacks its bundled weights: {printable(path)} does not exist",
            hint="Reinstall mpvideo from a wheel, or give a checkpoint of your own.",
        )
    return path
