"""What is found out about all requests of a run before any of them is made."""

from collections import Counter
from collections.abc import Iterator

from mpvideo.batch.plan import Fate, Planned
from mpvideo.batch.request import Request
from mpvideo.batch.sources import Sources
from mpvideo.config import SamplingConfig
from mpvideo.formats import warnings_about


class Survey:
    """What is found out about all requests at the first look.

    Attributes:
        samplings: how many are to be made with which checkpoint and settings of the sampler.
        firsts: the first request of each checkpoint.
    """

    def __init__(self) -> None:
        self.samplings: Counter[tuple[Sources, SamplingConfig]] = Counter()
        self.firsts: dict[Sources, Request] = {}
        self._warnings: dict[str, str] = {}
        self._looks: set[object] = set()
        self._guided: dict[Sources, bool] = {}

    def look(self, planned: Planned, fate: Fate) -> None:
        """Takes note of a request."""
        if not isinstance(planned, Request) or fate != Fate.MAKE:
            return
        for warning in planned.warnings:  # for the first job alone: thousands may have it
            where = "" if planned.where is None else f"{planned.where}: "
            self._warnings.setdefault(warning, f"{where}{warning}")
        sources = planned.sources
        self.samplings[sources, planned.sampling] += 1
        self.firsts.setdefault(sources, planned)
        self._guided[sources] = self._guided.get(sources, False) or planned.sampling.guidance != 1
        look = (planned.path.suffix, planned.encoding, sources)
        if look not in self._looks:
            self._looks.add(look)
            channels = sources.checkpoint.config.video.pixel_channels
            for warning in warnings_about(planned.path, channels=channels, encoding=planned.encoding):
                self._warnings.setdefault(warning, warning)

    def work(self, only: Sources | None = None) -> tuple[int, int]:
        """How many videos are to be made, and passes of the network for them; by one checkpoint or by all."""
        from mpvideo.generation import count_passes

        mine = {key: count for key, count in self.samplings.items() if only in (None, key[0])}
        return sum(mine.values()), sum(count_passes(sampling) * count for (_, sampling), count in mine.items())

    def is_guided(self, sources: Sources) -> bool:
        """Whether a video of theirs is made under guidance; they may be unknown, if jobs come as they come."""
        return self._guided.get(sources, True)

    def warnings(self) -> Iterator[str]:
        """What the user should know."""
        yield from self._warnings.values()
