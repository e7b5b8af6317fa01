"""A grid shows every sample in its place, at every time, however many there are."""

import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pytest

from mpvideo.errors import OutputError, UsageError
from mpvideo.formats import Encoding
from mpvideo.video import read_frames
from mpvideo.video.grid import GAP, GridWriter, Layout, check_grid, grid_layout
from tests.video.conftest import Frames, colourful, enlarged, psnr

EXACT = Encoding(8, format="mkv")


def noise(seed: int, frames: int = 3, side: int = 16, channels: int = 3) -> Frames:
    return np.random.default_rng(seed).integers(0, 256, (frames, side, side, channels), dtype=np.uint8)


def written(path: Path, videos: list[Frames], encoding: Encoding = EXACT, captions: list[str] | None = None) -> Frames:
    with GridWriter(path, encoding=encoding) as grid:
        for index, video in enumerate(videos):
            grid.add(video, captions[index] if captions else f"sample {index}")
    return read_frames(path)[0]


def tile(grid: Frames, layout: Layout, index: int) -> Frames:
    x, y = layout.place(index)
    return grid[:, y : y + layout.tile_height, x : x + layout.tile_width]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_every_sample_is_in_its_place(tmp_path: Path, count: int) -> None:
    path, videos = tmp_path / "g.mkv", [noise(seed) for seed in range(count)]
    layout = grid_layout(path, count, width=16, height=16, encoding=EXACT)
    grid = written(path, videos)
    assert grid.shape == (3, layout.size[1], layout.size[0], 3)
    for index, video in enumerate(videos):
        np.testing.assert_array_equal(tile(grid, layout, index), enlarged(video, layout.scale))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("count", "columns", "rows"), [(1, 1, 1), (2, 2, 1), (4, 2, 2), (5, 3, 2), (64, 8, 8), (65, 9, 8)]
)
def test_layout(count: int, columns: int, rows: int) -> None:
    layout = grid_layout(Path("g.mp4"), count, width=64, height=48, encoding=Encoding(8))
    assert (layout.columns, layout.rows, layout.scale) == (columns, rows, 2)
    assert layout.size[0] % 2 == layout.size[1] % 2 == 0
    places = [layout.place(index) for index in range(count)]
    assert len(set(places)) == count
    assert max(x for x, _ in places) + layout.tile_width + GAP <= layout.size[0]
    assert max(y for _, y in places) + layout.tile_height + GAP < layout.size[1]


def test_many_samples_get_smaller_and_then_are_refused() -> None:
    def scale(samples: int, **options: int) -> int:
        return grid_layout(Path("g.gif"), samples, width=64, height=64, encoding=Encoding(8, **options)).scale

    assert (scale(400), scale(1000)) == (2, 1)
    with pytest.raises(UsageError, match=r"sides of g\.gif must be at most 4096 pixels, got .* for a grid of 10,000"):
        scale(10_000)
    with pytest.raises(UsageError, match="at most 4096") as caught:
        scale(1000, scale=2)
    assert caught.value.hint == "Make fewer at a time, or choose a smaller --scale."


def test_captions_are_below_their_samples(tmp_path: Path) -> None:
    path, videos = tmp_path / "g.mkv", [noise(0), noise(1)]
    layout = grid_layout(path, 2, width=16, height=16, encoding=EXACT)
    grid = written(path, videos, captions=["golden dog trots to and fro, and fro, and fro, and fro, seed 0", ""])
    (x, y), (other, _) = layout.place(0), layout.place(1)
    below = grid[0, y + layout.tile_height :, x : x + layout.tile_width]
    assert (below < 128).any()
    assert (grid[0, y + layout.tile_height :, other:] == 255).all()
    assert (grid[0, :, x + layout.tile_width : other] == 255).all(), "nothing runs over into the gap"


def test_captions_of_narrow_samples_have_more_lines_if_they_need_and_fit_them(tmp_path: Path) -> None:
    plain, path = Encoding(8, scale=1), tmp_path / "g.gif"
    for caption, lines in (("golden dog trots, seed 0", 3), ("red cat, seed 0", 2)):  # golden | dog trots, | seed 0
        with GridWriter(path, encoding=plain, overwrite=True) as grid:
            grid.add(noise(0, 1, 64), caption)
        assert read_frames(path)[0].shape[1:3] == Layout(1, 1, 1, 64, 64, lines).size[::-1]
    most, more = (grid_layout(path, n * n, width=64, height=64, encoding=plain) for n in (29, 30))
    assert (most.caption_lines, more.caption_lines) == (4, 2), "a GIF has at most 4,096 pixels"


@pytest.mark.parametrize("channels", [1, 4])
def test_gray_and_transparent_samples(tmp_path: Path, channels: int) -> None:
    path, video = tmp_path / "g.mkv", colourful(3, 16, channels)
    layout = grid_layout(path, 1, width=16, height=16, encoding=EXACT)
    seen = video.repeat(3, axis=-1) if channels == 1 else video[..., :3] * (video[..., 3:] // 255)
    np.testing.assert_array_equal(tile(written(path, [video]), layout, 0), enlarged(seen, layout.scale))


def test_a_short_sample_rests_on_its_last_frame(tmp_path: Path) -> None:
    path, short, long = tmp_path / "g.mkv", noise(0, 2), noise(1, 5)
    layout = grid_layout(path, 2, width=16, height=16, encoding=EXACT)
    grid = written(path, [short, long])
    assert len(grid) == 5
    np.testing.assert_array_equal(tile(grid, layout, 0), enlarged(short[[0, 1, 1, 1, 1]], layout.scale))
    np.testing.assert_array_equal(tile(grid, layout, 1), enlarged(long, layout.scale))


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".apng"])
def test_formats_to_look_at(tmp_path: Path, suffix: str) -> None:
    path, encoding, videos = tmp_path / f"g{suffix}", Encoding(8), [colourful(4, 32) for _ in range(3)]
    layout = grid_layout(path, 3, width=32, height=32, encoding=encoding)
    grid = written(path, videos, encoding)
    shown = tile(grid, layout, 2).astype(int)
    assert np.abs(shown - enlarged(videos[2], layout.scale)).mean() < 3


def test_lanczos_and_scale(tmp_path: Path) -> None:
    path, video = tmp_path / "g.mkv", colourful(2, 16)
    smooth = Encoding(8, scale=3, filter="lanczos")
    layout = grid_layout(path, 1, width=16, height=16, encoding=smooth)
    assert layout.tile_width == 48
    shown = tile(written(path, [video], smooth), layout, 0)
    assert psnr(shown, enlarged(video, 3)) < 60
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) > 20


def test_nothing_is_written_for_nothing_or_after_an_error(tmp_path: Path) -> None:
    with GridWriter(tmp_path / "a.mp4", encoding=Encoding(8)):
        pass
    with pytest.raises(KeyboardInterrupt), GridWriter(tmp_path / "a.mp4", encoding=Encoding(8)) as grid:
        grid.add(noise(0), "a")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="only inside its `with` block"):
        grid.add(noise(0), "a")


def test_samples_that_do_not_fit(tmp_path: Path) -> None:
    with GridWriter(tmp_path / "a.mkv", encoding=Encoding(8)) as grid:
        grid.add(noise(0), "a")
        with pytest.raises(ValueError, match=r"must have the same \(H, W\), got \(8, 8\) after \(16, 16\)"):
            grid.add(noise(0, side=8), "b")
        with pytest.raises(ValueError, match="a video must be uint8, got float64"):
            grid.add(noise(0) / 2, "b")  # type: ignore[arg-type]
    assert len(read_frames(tmp_path / "a.mkv")[0]) == 3


def test_checks_before_any_work(tmp_path: Path) -> None:
    def check(path: Path, samples: int = 4) -> None:
        check_grid(path, samples, width=64, height=64, encoding=Encoding(8), overwrite=False)

    check(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").write_bytes(b"precious")
    with pytest.raises(OutputError, match="exists already"):
        check(tmp_path / "b.mp4")
    with pytest.raises(OutputError, match="does not exist"):
        check(tmp_path / "no" / "a.mp4")
    with pytest.raises(UsageError, match="must be at most 16384 pixels"):
        check(tmp_path / "a.mp4", 100_000)
    with pytest.raises(UsageError, match="a grid cannot go to standard output"):
        check(Path("-"))


def test_no_room_to_wait_in(tmp_path: Path) -> None:
    script = """
        import resource, sys
        from pathlib import Path
        from tests.video.test_grid import EXACT, noise, written
        from mpvideo.errors import OutputError
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, 5_000))
        try:
            written(Path(sys.argv[1]), [noise(seed) for seed in range(9)])
        except OutputError as error:
            print(error.message, error.hint, sep="|")
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "g.mkv")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "its samples have no room to wait in: file too large|Set TMPDIR" in done.stdout.replace("File", "file")
    assert list(tmp_path.iterdir()) == []


def test_no_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with (
        pytest.raises(OutputError, match="no room to wait in: no such file"),
        GridWriter(tmp_path / "a.mkv", encoding=EXACT),
    ):
        raise AssertionError


def test_memory_does_not_grow_with_the_samples(tmp_path: Path) -> None:
    """900 samples of 16 frames have 177 MB; a frame of their grid 13."""
    script = """
        import resource, sys
        from pathlib import Path
        import numpy as np
        from mpvideo.formats import Encoding
        from mpvideo.video.grid import GridWriter
        frames = np.random.default_rng(0).integers(0, 256, (16, 64, 64, 3), dtype=np.uint8)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with GridWriter(Path(sys.argv[1]), encoding=Encoding(8, scale=1)) as grid:
            for index in range(900):
                grid.add(frames, f"sample {index}")
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "g.npy")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 70_000, "kilobytes"
