"""What a training run trains on what, and how often it writes."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from mpvideo.config import EDMConfig, ModelConfig, SamplingConfig, VideoConfig
from mpvideo.training.data import Dataset
from mpvideo.training.draws import draw_index
from mpvideo.training.initial import InitialWeights
from mpvideo.training.recipe import Recipe

_DRAWN_NUMBERS = range(2**47, 2**61 - 2**47)
"""Where the samples of a run may begin, but for the one that begins at 0.

Below lie those of the judge in `mpvideo.evaluation` and of its comparisons, which no network is to see.
"""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to train on what.

    Attributes:
        data: the samples.
        source: what the user calls them, and how clips are cut, for the records.
        video: what the network's channels mean.
        model: the network.
        recipe: how it is trained.
        steps: of the network, in all calls.
        sampling: the settings to sample the checkpoint with.
        title, license: of the checkpoint.
        description: the data in a few words, for people.
        edm: its preconditioning.
        initial: the weights that a new run begins with, or None for random ones.
    """

    data: Dataset
    source: dict[str, Any]
    video: VideoConfig
    model: ModelConfig
    recipe: Recipe
    steps: int
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    title: str | None = None
    license: str | None = None
    description: str = "videos"
    edm: EDMConfig = field(default_factory=EDMConfig)
    initial: InitialWeights | None = None

    @property
    def first_sample(self) -> int:
        """The number of the network's first sample.

        It is 0 for seed 0 without weights to begin with, and else drawn, from the seed and these weights: a run is not
        shown what they were trained on, nor what a run of another seed is shown.
        """
        if self.initial is None and self.recipe.seed == 0:
            return 0
        weights = None if self.initial is None else self.initial.sha256
        return _DRAWN_NUMBERS[draw_index(len(_DRAWN_NUMBERS), self.recipe.seed, "first sample", weights)]

    def begun_with(self) -> dict[str, Any]:
        """What must stay the same in all calls, as JSON."""
        source = dict(self.source)
        if self.initial is not None:
            source["init_sha256"] = self.initial.sha256
        record = {"source": source, "video": asdict(self.video), "model": asdict(self.model)}
        return json.loads(json.dumps({**record, "recipe": asdict(self.recipe)}))  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class Rhythm:
    """How often things are written, in seconds, and how long to train.

    Attributes:
        snapshot: between snapshots.
        sheet: between contact sheets.
        log: between records of the loss.
        limit: after which this call ends, or None; counted from when there is a `Run`.
    """

    snapshot: float = 300.0
    sheet: float = 600.0
    log: float = 10.0
    limit: float | None = None
