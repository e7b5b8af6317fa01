"""A feature network that the user names: TorchScript, such as the I3D by which the field measures videos.

It is given videos of shape (B, 3, T, S, S), float32 in [-1, 1], and gives features (B, D). The I3D file that is in
general use, i3d_torchscript.pt, takes flags beside the video: `rescale` and `resize`, which are switched off because
both are done here, and `return_features`, which is switched on. Of these, a network is given those that its `forward`
has; one without any is called with the video alone.
"""

import warnings
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from mpvideo.errors import MPVideoError
from mpvideo.files import reason
from mpvideo.text import printable

_FLAGS = {"rescale": False, "resize": False, "return_features": True}

RESIZING = "bilinear, antialiased, each frame straight to the network's size"


class FeatureNetwork:
    """A TorchScript network, in evaluation mode. Loading one runs its code: it has to be trusted.

    Args:
        path: the file.
        size: height and width of the frames that it is given.
        device: where it computes; the file is always read to the CPU first.

    Attributes:
        path, size: as given.
        sha256: of the file, in hex.
        flags: what it is called with beside the video.

    Raises:
        MPVideoError: the file cannot be read, or is no TorchScript.
    """

    def __init__(self, path: Path, *, size: int, device: torch.device) -> None:
        self.path, self.size, self._device = path, size, device
        try:
            data = path.read_bytes()
        except OSError as error:
            raise MPVideoError(f"--features {printable(path)} cannot be read: {reason(error)}") from error
        self.sha256 = sha256(data).hexdigest()
        try:
            with warnings.catch_warnings():
                # Deprecated, in a category that changes with torch; but the field's network comes as TorchScript.
                warnings.filterwarnings("ignore", r"`torch\.jit\.")
                self._net: Any = torch.jit.load(BytesIO(data), map_location="cpu")  # type: ignore[no-untyped-call]
            self._net = self._net.to(device).eval()
            known = {argument.name for argument in self._net.forward.schema.arguments}
        except (RuntimeError, ValueError, AttributeError) as error:
            raise MPVideoError(
                f"--features {printable(path)} is no TorchScript network",
                hint="It must be a file that torch.jit.save wrote, such as i3d_torchscript.pt.",
            ) from error
        self.flags = {name: value for name, value in _FLAGS.items() if name in known}

    @torch.inference_mode()
    def features(self, frames: npt.NDArray[np.uint8]) -> Tensor:
        """Of one video, (T, H, W, C) uint8 with C = 1, 3 or 4: (D,) float64 on the CPU.

        Raises:
            MPVideoError: the network fails on it, or gives something else.
        """
        video = as_input(frames, self.size).to(self._device)
        shape = ", ".join(map(str, video.shape))
        try:
            output = self._net(video, **self.flags)
        except RuntimeError as error:
            # TorchScript quotes its own program first; the last line says what went wrong.
            words = printable(str(error).strip().splitlines()[-1])
            raise MPVideoError(
                f"the network {printable(self.path)} fails on a video of shape ({shape}): {words}",
                hint="Try another --feature-size; some networks need more frames, too.",
            ) from error
        if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != 1:
            got = f"({', '.join(map(str, output.shape))})" if isinstance(output, Tensor) else type(output).__name__
            raise MPVideoError(f"the network {printable(self.path)} must give features of shape (1, D), got {got}")
        features = output[0].cpu().double()  # MPS has no float64
        if not features.isfinite().all():
            raise MPVideoError(f"the network {printable(self.path)} gave NaN or infinity for a video")
        return features


def as_input(frames: npt.NDArray[np.uint8], size: int) -> Tensor:
    """A video (T, H, W, C) uint8 as networks take it: (1, 3, T, size, size) float32 in [-1, 1].

    Gray becomes three equal channels; what is transparent lies over black.
    """
    video = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    if video.shape[1] == 4:
        video = video[:, :3] * video[:, 3:]
    resized = F.interpolate(video, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    return (resized * 2 - 1).expand(-1, 3, -1, -1).transpose(0, 1)[None].contiguous()
