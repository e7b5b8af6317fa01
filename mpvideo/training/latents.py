"""From numbered samples to the tensors that the network is trained on."""

from collections.abc import Sequence

import torch
from torch import Tensor

from mpvideo.training.data import Dataset
from mpvideo.training.trainer import Batches
from mpvideo.video.codec import Codec


def encoded_batches(data: Dataset, codec: Codec) -> Batches:
    """The samples as the codec encodes them, each time anew."""

    @torch.no_grad()
    def batches(numbers: Sequence[int], frames: int | None) -> tuple[Tensor, Tensor]:
        pixels, labels = data.batch(numbers, frames)
        return codec.encode(pixels), labels

    return batches
