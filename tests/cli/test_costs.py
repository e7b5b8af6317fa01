"""What a training costs."""

from mpvideo.cli.costs import warn_of_minutes
from mpvideo.training.recipe import Recipe


def test_minutes_that_cannot_suffice() -> None:
    said: list[str] = []
    for minutes, left in ((14, 400), (13, 400), (2, 60), (3, 0)):
        warn_of_minutes(minutes, 2.0, left, Recipe(autoencoder_steps=400), said.append)
    assert said == [
        "warning: --minutes 13 ends this call before there is a checkpoint: the autoencoder comes first, and its 400 "
        "steps take about 13 min; give --minutes 21 or more, a smaller --size, or fewer --autoencoder-steps than 400",
        "warning: --minutes 2 ends this call before there is a checkpoint: the autoencoder comes first, and its 60 "
        "steps take about 2 min; give --minutes 4 or more, a smaller --size, or fewer --autoencoder-steps than 400",
    ]
