"""The package from Python."""

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import mpvideo
from mpvideo.checkpoint import open_checkpoint, read_header
from mpvideo.checkpoint.load import load_tensors
from mpvideo.checkpoint.save import save_checkpoint
from mpvideo.device import choose_placement
from mpvideo.errors import CheckpointError
from mpvideo.model import load_model
from mpvideo.video import (
    Encoding,
    GridWriter,
    SheetWriter,
    VideoWriter,
    check_destination,
    enlargement,
    read_frames,
    read_index,
    read_record,
    warnings_about,
)
from tests.checkpoints import save_tiny, tiny_config

SAMPLING = mpvideo.SamplingConfig(sampler="euler", steps=2)


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("ckpt") / "tiny.safetensors", tiny_config())


def test_videos_come_with_their_records(ckpt: Path) -> None:
    jobs = [mpvideo.Job(seed=seed, class_index=1, sampling=SAMPLING) for seed in (3, 4)]
    seen: list[int] = []
    videos = list(mpvideo.generate(ckpt, jobs, dtype="float32", batch_size=2, on_evaluation=seen.append))
    assert [video.job for video in videos] == jobs
    assert sum(seen) == 4
    for video, job in zip(videos, jobs, strict=True):
        assert (video.frames.shape, video.frames.dtype) == ((4, 8, 8, 3), np.uint8)
        record = video.record()
        assert (record.seed, record.class_name, record.sampling, record.encoding) == (
            job.seed,
            "red dog",
            SAMPLING,
            None,
        )
        assert record.checkpoint.name == "tiny.safetensors"
        assert record.command.startswith(f"mpvideo sample --ckpt tiny.safetensors --class 1 --seed {job.seed} ")


def test_it_is_the_program_s_own_road(ckpt: Path, tmp_path: Path) -> None:
    words = ["sample", "--ckpt", str(ckpt), "--class", "2", "--seed", "7", "--dtype", "float32", "--out", "a.npy"]
    subprocess.run([sys.executable, "-m", "mpvideo", *words], cwd=tmp_path, capture_output=True, timeout=60, check=True)
    (video,) = mpvideo.generate(str(ckpt), [mpvideo.Job(seed=7, class_index=2)], dtype="float32", batch_size=1)
    assert (np.load(tmp_path / "a.npy") == video.frames).all()


def test_jobs_are_taken_as_they_are_needed(ckpt: Path) -> None:
    endless = (mpvideo.Job(seed=seed, sampling=SAMPLING) for seed in itertools.count())
    videos = mpvideo.generate(ckpt, endless, batch_size=2)
    assert [video.job.seed for video in itertools.islice(videos, 3)] == [0, 1, 2]


def test_checkpoints_of_every_kind(ckpt: Path) -> None:
    opened = open_checkpoint(ckpt)
    model = load_model(opened, choose_placement("cpu", "float32"))
    jobs = [mpvideo.Job(seed=1, sampling=SAMPLING)]
    first = next(mpvideo.generate(model, jobs)).frames
    for source in (ckpt, str(ckpt), opened):
        assert (next(mpvideo.generate(source, jobs, dtype="float32")).frames == first).all()


def test_what_speaks_against_a_device_is_passed_on(ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    placement = dataclasses.replace(choose_placement("cpu", "float32"), warnings=("CUDA is not used: it is wrong",))
    monkeypatch.setattr("mpvideo.api.choose_placement", lambda device, dtype: placement)
    with pytest.warns(UserWarning, match="CUDA is not used: it is wrong") as told:
        mpvideo.generate(ckpt, [])
    assert told[0].filename == __file__


def test_paths_may_be_strings(ckpt: Path, tmp_path: Path) -> None:
    frames = np.zeros((2, 8, 8, 3), np.uint8)
    path, folder = str(tmp_path / "a.npy"), str(tmp_path)
    check_destination(path, overwrite=False)
    encoding = Encoding(8.0)
    with (
        VideoWriter(path, width=8, height=8, channels=3, encoding=encoding) as file,
        GridWriter(f"{folder}/grid.npy", encoding=encoding) as grid,
        SheetWriter(f"{folder}/sheet.png") as sheet,
    ):
        file.write(frames)
        grid.add(frames, "one")
        sheet.add(frames, "one")
    assert (read_frames(path)[0] == frames).all()
    assert (read_index(path).frames, read_record(path)) == (2, None)
    assert enlargement("a.mp4", width=8, height=8, encoding=encoding) == 32
    assert warnings_about("a.mp4", channels=3, encoding=encoding) == ()
    checkpoint = open_checkpoint(str(ckpt))
    (tmp_path / "more.json").write_text('{"format": 1}')
    assert open_checkpoint(str(ckpt), config_file=f"{folder}/more.json").config == checkpoint.config
    assert read_header(str(ckpt)).tensors == checkpoint.header.tensors
    save_checkpoint(f"{folder}/b.safetensors", load_tensors(checkpoint.header)[0], checkpoint.config)
    assert open_checkpoint(f"{folder}/b.safetensors").config == checkpoint.config


def test_what_is_wrong_is_said_before_the_first_video(ckpt: Path) -> None:
    for size, words in ((0, "at least 1, got 0"), (2.5, "a whole number, got 2.5"), (True, "a whole number, got True")):
        with pytest.raises(ValueError, match=f"batch_size must be {words}"):
            mpvideo.generate(ckpt, [], batch_size=size)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"dtype must be one of auto, float32, .*; got 'f32'"):
        mpvideo.generate(ckpt, [], dtype="f32")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"device must be one of auto, .*; got 'gpu'"):
        mpvideo.generate(ckpt, [], device="gpu")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"sampling must be a SamplingConfig or None, got \{\}"):
        mpvideo.Job(seed=0, sampling={})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"jobs must be of Job objects, or None, got \{'seed': 0\}"):
        next(mpvideo.generate(ckpt, [{"seed": 0}], dtype="float32"))  # type: ignore[type-var]
    with pytest.raises(CheckpointError, match="does not exist"):
        mpvideo.generate("missing.safetensors", [])
    model = load_model(open_checkpoint(ckpt), choose_placement("cpu", "float32"))
    with pytest.raises(ValueError, match="guide must be None for a model that is loaded already"):
        mpvideo.generate(model, [], guide=ckpt)
    with pytest.raises(ValueError, match="device must be auto for a model that is loaded already, got 'cuda'"):
        mpvideo.generate(model, [], device="cuda")
    with pytest.raises(ValueError, match="dtype must be auto for a model that is loaded already, got 'float32'"):
        mpvideo.generate(model, [], dtype="float32")
    with pytest.raises(AttributeError, match="module 'mpvideo' has no attribute 'nonsense'"):
        _ = mpvideo.nonsense
    assert not any(hasattr(mpvideo, name) for name in ("a.b", "", "nonsense", "_private", "__path"))


@pytest.mark.parametrize("name", ["record", "video", "nn", "menagerie", "diffusion", "config"])
def test_modules_are_loaded_when_they_are_asked_for(name: str) -> None:
    code = f"import sys, mpvideo\nassert mpvideo.{name} is sys.modules['mpvideo.{name}']\nprint(*dir(mpvideo))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert {"Job", "SamplingConfig", "generate", name} <= {*done.stdout.split()}


def test_importing_the_package_loads_nothing() -> None:
    code = (
        "import sys, mpvideo\nprint([name for name in sys.modules if name.startswith(('mpvideo', 'torch', 'numpy'))])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "['mpvideo']\n"
