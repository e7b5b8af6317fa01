"""Whether one checkpoint can guide the sampling of another (autoguidance, arXiv 2406.02507)."""

from mpvideo.checkpoint.opening import Checkpoint
from mpvideo.config import CheckpointConfig
from mpvideo.errors import UsageError
from mpvideo.text import printable


def check_guide(config: CheckpointConfig, guide: Checkpoint) -> None:
    """Makes sure that both networks work on the same tensors and classes. Their widths and depths may differ.

    That the weights of their autoencoders are the same is seen only when they are read, by
    `mpvideo.model.load_model`.

    Args:
        config: of the checkpoint that is to be guided.
        guide: the other.

    Raises:
        UsageError: something that must be the same differs, and what.
    """
    for part, name in (
        ("video", "codec"),
        ("video", "autoencoder"),
        ("model", "channels"),
        ("model", "frames"),
        ("model", "image_size"),
        ("model", "num_classes"),
    ):
        wanted, seen = (getattr(getattr(about, part), name) for about in (config, guide.config))
        if wanted != seen:
            raise UsageError(
                f"--guide must have the {part}.{name} of the checkpoint, {wanted}; {printable(guide.name)} has {seen}",
                hint="A guide is a smaller or less trained network for the same videos: an earlier snapshot, or one "
                "trained with --init.",
            )
    if config.classes is not None and guide.config.classes is not None and config.classes != guide.config.classes:
        pairs = zip(config.classes, guide.config.classes, strict=True)
        index, (ours, theirs) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
        raise UsageError(
            f"--guide must have the classes of the checkpoint; {index} is {printable(ours)!r} there and "
            f"{printable(theirs)!r} in {printable(guide.name)}"
        )
