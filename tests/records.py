"""A record as the tiny checkpoint's videos carry it."""

import dataclasses
from typing import Any

from mpvideo.formats import Encoding
from mpvideo.record import Record, Weights
from tests.checkpoints import tiny_config


def a_record(**parts: Any) -> Record:
    """The record of one video of the tiny checkpoint, with some parts other than usual."""
    config = tiny_config()
    record = Record(
        checkpoint=Weights(name="tiny.safetensors", sha256="0123456789abcdef" * 4),
        guide=None,
        config=config,
        class_index=1,
        class_name="red dog",
        seed=7,
        frames=4,
        sampling=config.sampling,
        clamp=False,
        encoding=Encoding(8.0),
        dtype="float32",
        device="cpu",
        torch="2.13.0+cpu",
    )
    return dataclasses.replace(record, **parts)
