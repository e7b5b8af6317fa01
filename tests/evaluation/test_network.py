"""Feature networks that the user names."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mpvideo.errors import MPVideoError
from mpvideo.evaluation.network import FeatureNetwork, as_input
from tests.evaluation.networks import Flat, LikeI3D, Means, Picky, Undefined, save_network

CPU = torch.device("cpu")


def plain(*colour: int, frames: int = 3, size: int = 8) -> np.ndarray:
    return np.broadcast_to(np.array(colour, np.uint8), (frames, size, size, len(colour))).copy()


def load(tmp_path: Path, net: nn.Module, size: int = 12) -> FeatureNetwork:
    return FeatureNetwork(save_network(tmp_path / "net.pt", net), size=size, device=CPU)


def test_features_of_plain_colours(tmp_path: Path) -> None:
    network = load(tmp_path, Means())
    video = plain(255, 0, 51)
    video[0] = 255
    third = [(1 + 2 * value) / 3 for value in (1, -1, -0.6)]
    assert network.features(video).tolist() == pytest.approx([*third, 1], abs=1e-6)
    assert network.features(video).dtype == torch.float64
    assert network.flags == {}
    assert network.sha256 == hashlib.sha256((tmp_path / "net.pt").read_bytes()).hexdigest()


def test_the_flags_of_the_field_s_network(tmp_path: Path) -> None:
    network = load(tmp_path, LikeI3D())
    assert network.flags == {"rescale": False, "resize": False, "return_features": True}
    assert network.features(plain(255, 255, 255)).tolist() == pytest.approx([1, 1, 1, 0, 0, 1])


def test_what_a_network_is_given() -> None:
    x = as_input(plain(0, 128, 255, frames=5, size=8), 20)
    assert x.shape == (1, 3, 5, 20, 20)
    assert x.dtype == torch.float32
    torch.testing.assert_close(x[0, :, 2, 3, 4], torch.tensor([-1, 128 / 127.5 - 1, 1]))
    gray = as_input(plain(51), 8)
    torch.testing.assert_close(gray, torch.full((1, 3, 3, 8, 8), -0.6))
    seen = as_input(plain(200, 100, 0, 51), 8)  # a fifth of it is there, over black
    torch.testing.assert_close(seen[0, :, 0, 0, 0], torch.tensor([40.0, 20.0, 0.0]) / 127.5 - 1)


def test_shrinking_is_antialiased() -> None:
    """A checkerboard becomes gray, not black or white."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    assert as_input(board[None, ..., None], 16)[..., 2:-2, 2:-2].abs().max() < 0.05


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (Flat(), r"must give features of shape \(1, D\), got \(1296\)"),
        (Picky(), r"fails on a video of shape \(1, 3, 3, 12, 12\): RuntimeError: shape "),
        (Undefined(), "gave NaN or infinity"),
    ],
)
def test_networks_that_do_not_fit(tmp_path: Path, net: nn.Module, message: str) -> None:
    with pytest.raises(MPVideoError, match=message):
        load(tmp_path, net).features(plain(1, 2, 3))


def test_files_that_are_no_network(tmp_path: Path) -> None:
    with pytest.raises(MPVideoError, match="cannot be read: no such file"):
        FeatureNetwork(tmp_path / "none.pt", size=8, device=CPU)
    path = tmp_path / "weights.pt"
    for write in (lambda: path.write_bytes(b"hello"), lambda: torch.save({"x": torch.zeros(2)}, path)):
        write()
        with pytest.raises(MPVideoError, match="is no TorchScript network"):
            FeatureNetwork(path, size=8, device=CPU)
