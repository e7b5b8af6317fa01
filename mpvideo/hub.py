"""What checkpoints on the Hugging Face hub are called: `hf:owner/repo[/file][@revision]`, in place of a path.

Only the standard library is imported.
"""

import re
from dataclasses import dataclass

from mpvideo.checkpoint.header import WEIGHTS_FILE
from mpvideo.config import MAX_NAME

PREFIX = "hf:"

_REFERENCE = re.compile(r"hf:([\w.-]+/[\w.-]+)(?:/([^@]+))?(?:@(.+))?", re.ASCII)


@dataclass(frozen=True)
class HubReference:
    """What `hf:owner/repo[/file][@revision]` names; without a file, the checkpoint that the repository is."""

    repo: str
    file: str | None
    revision: str | None

    @property
    def first(self) -> str:
        """The file that is asked for first."""
        return self.file or WEIGHTS_FILE

    def __str__(self) -> str:
        file, revision = (f"/{self.file}" if self.file else ""), (f"@{self.revision}" if self.revision else "")
        return f"{PREFIX}{self.repo}{file}{revision}"


def find_reference(text: str) -> HubReference | None:
    """What a text names on the hub; None if it is no such name, leads out of the repository, or is too long."""
    found = _REFERENCE.fullmatch(text)
    if found is None or len(text) > MAX_NAME or ".." in re.split("[/@]", text):
        return None
    return HubReference(*found.groups())
