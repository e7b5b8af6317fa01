"""Every way in which writing can fail ends with a message, exit code 5, and nothing left behind."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mpvideo.errors import ExitCode, MPVideoError, OutputError
from mpvideo.video import Encoding, VideoWriter, check_destination, read_frames, read_record
from mpvideo.video.ffmpeg import start_ffmpeg
from mpvideo.video.ffmpeg_sink import FfmpegSink
from tests.video.conftest import Frames, colourful, save

SUFFIXES = pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".apng", ".mkv", ".npy", ".safetensors"])


def fails(path: Path, frames: Frames | None = None, *, overwrite: bool = True) -> OutputError:
    """Try to save and return the error, having checked that the folder is as it was."""
    before = {file: file.read_bytes() for file in path.parent.iterdir() if file.is_file()}
    with pytest.raises(OutputError) as caught:
        save(path, colourful() if frames is None else frames, overwrite=overwrite)
    assert {file: file.read_bytes() for file in path.parent.iterdir() if file.is_file()} == before
    assert caught.value.exit_code == ExitCode.OUTPUT == 5
    return caught.value


@pytest.fixture(params=[".mp4", ".webm", ".gif", ".apng", ".mkv"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A file that is there already and must survive every failure."""
    path = tmp_path / f"old{request.param}"
    path.write_bytes(b"precious")
    return path


def noise(frames: int = 40) -> Frames:
    """More bytes than a pipe holds, and hard to compress."""
    return np.random.default_rng(0).integers(0, 256, (frames, 64, 64, 3), dtype=np.uint8)


def test_full_disk_as_ffmpeg_tells_it(target: Path, fake_ffmpeg: Callable[[str], None]) -> None:
    told = "[out#0/mp4 @ 0x5] Error writing trailer: No space left on device"
    fake_ffmpeg(f'echo half > "$output"; cat > /dev/null; echo "{told}" >&2; echo "Conversion failed!" >&2; exit 228')
    error = fails(target)
    assert error.message == f"the disk is full: {target} could not be written"
    assert error.hint == "Free some space, or write to another disk."


def test_full_disk_while_frames_are_coming(target: Path, fake_ffmpeg: Callable[[str], None]) -> None:
    fake_ffmpeg('head -c 1000 > /dev/null; echo "av_interleaved_write_frame(): No space left on device" >&2; exit 228')
    assert fails(target, noise()).message.startswith("the disk is full")


def test_disk_trouble_at_the_very_end(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", refuse)
    assert fails(target).message == f"the disk is full: {target} could not be written"


@SUFFIXES
def test_file_size_limit_for_real(tmp_path: Path, suffix: str) -> None:
    """The kernel itself stops the writing, as it does on a full disk."""
    script = """
        import resource, sys
        import numpy as np
        from mpvideo.errors import OutputError
        from tests.video.test_failures import noise, save
        from pathlib import Path
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            save(Path(sys.argv[1]), noise())
        except OutputError as error:
            print(error.message, error.hint, sep="|")
    """
    path = tmp_path / f"a{suffix}"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "could not be written: " in done.stdout
    assert "ulimit -f" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_killed_ffmpeg(target: Path) -> None:
    encoding = Encoding(8, scale=1)
    with (
        pytest.raises(OutputError, match=r"ffmpeg was killed by signal 9 \(SIGKILL\)") as caught,
        VideoWriter(target, width=64, height=64, channels=3, encoding=encoding, overwrite=True) as writer,
    ):
        writer.write(noise(2))
        assert isinstance(writer._sink, FfmpegSink)
        os.kill(writer._sink._encoder._process.pid, signal.SIGKILL)
        writer.write(noise())
    assert "memory" in (caught.value.hint or "")
    assert target.read_bytes() == b"precious"
    assert list(target.parent.iterdir()) == [target]
    with pytest.raises(ChildProcessError):  # no zombie
        os.waitpid(writer._sink._encoder._process.pid, os.WNOHANG)


def test_ffmpeg_killed_after_the_last_frame(target: Path, fake_ffmpeg: Callable[[str], None]) -> None:
    fake_ffmpeg("cat > /dev/null; kill -9 $$")
    assert "killed by signal 9 (SIGKILL)" in fails(target).message


def test_ffmpeg_that_says_yes_and_writes_nothing(target: Path, fake_ffmpeg: Callable[[str], None]) -> None:
    fake_ffmpeg("cat > /dev/null; exit 0")
    assert "ffmpeg reported success, but the file is not right" in fails(target).message


def test_ffmpeg_that_says_yes_and_drops_frames(
    target: Path, tmp_path_factory: pytest.TempPathFactory, fake_ffmpeg: Callable[[str], None]
) -> None:
    short = save(tmp_path_factory.mktemp("short") / f"a{target.suffix}", colourful(2))
    fake_ffmpeg(f'cat > /dev/null; cp "{short}" "$output"')
    assert "it has 2 frames of 6" in fails(target).message


def test_ffmpeg_that_stops_reading_and_says_yes(target: Path, fake_ffmpeg: Callable[[str], None]) -> None:
    fake_ffmpeg("exit 0")
    assert "ffmpeg ended with exit code 0 and no message" in fails(target, noise()).message


@pytest.mark.parametrize(
    ("lines", "quoted"),
    [
        (["[x @ 0x1] [y] Invalid data found", "Conversion failed!"], "Invalid data found"),
        # As releases 5 and 9 say it.
        (["Unknown encoder 'libx264'"], "Unknown encoder 'libx264'"),
        (
            [
                "[vost#0:0 @ 0x1] Unknown encoder 'libx264'", "[vost#0:0 @ 0x1] Error selecting an encoder",
                "Error opening output file a.mp4.", "Error opening output files: Encoder not found",
            ],
            "Unknown encoder 'libx264'",
        ),
        # Of an ffmpeg without SVT-AV1, whose options are unknown then, too.
        (
            ["Unrecognized option 'svtav1-params'.", "Error splitting the argument list: Option not found"],
            "Unrecognized option 'svtav1-params'.",
        ),
    ],
)  # fmt: skip
def test_the_line_that_says_most_is_quoted(
    target: Path, fake_ffmpeg: Callable[[str], None], lines: list[str], quoted: str
) -> None:
    echoes = "; ".join(f'echo "{line}" >&2' for line in lines)
    fake_ffmpeg(f"cat > /dev/null; {echoes}; exit 8")
    error = fails(target)
    assert error.message.endswith(f"ffmpeg ended with exit code 8: {quoted}")
    lacks = quoted.startswith("Un")
    assert (error.hint is not None and error.hint.startswith("This ffmpeg lacks a part: ")) == lacks


def test_what_the_ffmpeg_that_comes_along_says_of_an_encoder_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpvideo.video.ffmpeg_sink._WEBM", ("-c:v", "nonesuch", "-f", "webm"))
    error = fails(tmp_path / "a.webm")
    assert error.message.endswith(": Unknown encoder 'nonesuch'")
    assert error.hint is not None and error.hint.startswith("This ffmpeg lacks a part: ")


def test_no_ffmpeg_that_runs(
    target: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = tmp_path_factory.mktemp("bin") / "nothing"
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(missing))
    with pytest.raises(MPVideoError, match=f"IMAGEIO_FFMPEG_EXE must name a program, got {missing}"):
        check_destination(target, overwrite=True)


def test_no_ffmpeg_at_all(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> str:
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr("imageio_ffmpeg.get_ffmpeg_exe", nothing)
    with pytest.raises(MPVideoError, match="video files need ffmpeg, and none was found"):
        check_destination(target, overwrite=True)
    assert list(target.parent.iterdir()) == [target]


def test_no_frames(target: Path) -> None:
    assert fails(target, colourful()[:0]).message == f"{target} must have at least one frame, got none"


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_exception_in_the_block_leaves_nothing(target: Path, error: type[BaseException]) -> None:
    encoding = Encoding(8, scale=1)
    with (
        pytest.raises(error),
        VideoWriter(target, width=32, height=32, channels=3, encoding=encoding, overwrite=True) as writer,
    ):
        writer.write(colourful())
        raise error
    assert target.read_bytes() == b"precious"
    assert list(target.parent.iterdir()) == [target]


def test_a_swallowed_failure_makes_no_video(target: Path, fake_ffmpeg: Callable[[str], None]) -> None:
    fake_ffmpeg("exit 3")
    encoding = Encoding(8, scale=1)
    with (
        pytest.raises(OutputError, match="exit code 3"),
        VideoWriter(target, width=64, height=64, channels=3, encoding=encoding, overwrite=True) as writer,
    ):
        for _ in range(2):
            with pytest.raises(OutputError, match="exit code 3"):
                writer.write(noise())
    assert target.read_bytes() == b"precious"


def test_ctrl_c_for_real(tmp_path: Path) -> None:
    script = """
        import sys
        from pathlib import Path
        from mpvideo.video import Encoding, VideoWriter
        from tests.video.test_failures import noise
        with VideoWriter(Path(sys.argv[1]), width=64, height=64, channels=3, encoding=Encoding(8)) as writer:
            writer.write(noise(1))
            print(writer._sink._encoder._process.pid, flush=True)
            while True:
                writer.write(noise(1))
    """
    arguments = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "a.mp4")]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        encoder = int(program.stdout.readline())
        time.sleep(0.2)
        program.send_signal(signal.SIGINT)
        _, said = program.communicate(timeout=30)
    assert said.rstrip().endswith("KeyboardInterrupt")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.kill(encoder, 0)


@pytest.mark.skipif(os.name != "posix", reason="signals to a whole group are POSIX")
def test_a_signal_to_the_whole_group_is_ours(tmp_path: Path) -> None:
    """From the first moment of ffmpeg on, as a busy machine may let that moment last."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    script = "kill -TERM $$; kill -INT $$; kill -HUP $$; echo alive"
    with start_ffmpeg(["sh", "-c", script], stdout=subprocess.PIPE) as process:
        assert process.communicate(timeout=30)[0] == b"alive\n"
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    with pytest.raises(FileNotFoundError):
        start_ffmpeg([str(tmp_path / "none")])
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


@pytest.mark.skipif(os.name != "posix", reason="signals are held back on POSIX")
def test_a_signal_while_ffmpeg_starts_leaves_none_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            started.append(self)
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # to us, not to a thread that takes it at once

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        start_ffmpeg(["sleep", "100"])
    assert [process.returncode for process in started] == [-signal.SIGKILL]


# --- where the file goes ---------------------------------------------------------------------------------------------


def refusal(path: Path, *, overwrite: bool = False) -> OutputError:
    """The error before any work; entering the writer must end in the same one."""
    errors = []
    for attempt in (
        lambda: check_destination(path, overwrite=overwrite),
        lambda: save(path, colourful(), overwrite=overwrite),
    ):
        with pytest.raises(OutputError) as caught:
            attempt()
        errors.append(caught.value)
    assert errors[0].message == errors[1].message
    return errors[0]


@pytest.mark.parametrize("note", [".DS_Store", "Thumbs.db"])
def test_frames_that_somebody_looked_at_may_still_be_replaced(tmp_path: Path, note: str) -> None:
    """Desktops leave notes of their own in a folder that they show."""
    path = tmp_path / "frames"

    def write(count: int, *, overwrite: bool = False) -> None:
        encoding = Encoding(8, format="png", scale=1)
        with VideoWriter(path, width=32, height=32, channels=3, encoding=encoding, overwrite=overwrite) as writer:
            writer.write(colourful(count))

    write(3)
    (path / note).write_bytes(b"where icons lie")
    with pytest.raises(OutputError, match="exists already"):
        write(2)
    write(2, overwrite=True)
    assert sorted(each.name for each in path.iterdir()) == ["frame-000001.png", "frame-000002.png"]


def test_missing_folder(tmp_path: Path) -> None:
    error = refusal(tmp_path / "no" / "a.mp4")
    assert error.message == f"the folder {tmp_path / 'no'} does not exist"
    assert error.hint == f"Run `mkdir -p {tmp_path / 'no'}` first."


@pytest.mark.parametrize("name", ["-y.mp4", "a:b %d 'q' \"é\".mp4", "line\nbreak.gif"])
def test_odd_names_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    path = save(Path(name), colourful(), record={"name": name})
    assert len(read_frames(path)[0]) == 6
    assert read_record(path) == {"name": name}
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_existing_file(target: Path) -> None:
    error = refusal(target)
    assert error.message == f"{target} exists already"
    assert error.hint == "Choose another name, or give -y to overwrite it."
    assert target.read_bytes() == b"precious"
    check_destination(target, overwrite=True)
    assert target.read_bytes() == b"precious"
    assert len(read_frames(save(target, colourful(), overwrite=True))[0]) == 6


def test_a_file_that_appears_meanwhile_is_not_lost(tmp_path: Path) -> None:
    path, encoding = tmp_path / "a.mp4", Encoding(8)
    with (
        pytest.raises(OutputError, match="exists already"),
        VideoWriter(path, width=32, height=32, channels=3, encoding=encoding) as writer,
    ):
        writer.write(colourful())
        path.write_bytes(b"somebody else's")
    assert path.read_bytes() == b"somebody else's"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.mp4", tmp_path / "link.mp4"
    link.symlink_to(real)
    save(link, colourful(3))  # it leads nowhere yet
    assert link.is_symlink()
    assert len(read_frames(real)[0]) == 3


@pytest.mark.parametrize("suffix", [".mp4", ".webm", ".gif", ".apng", ".mkv", ".npy", ".safetensors"])
def test_what_a_link_leads_to_may_be_called_anything(tmp_path: Path, suffix: str) -> None:
    link = tmp_path / f"link{suffix}"
    link.symlink_to(tmp_path / "store.bin")
    save(link, colourful(3))
    assert link.is_symlink()
    assert len(read_frames(link)[0]) == 3


def test_the_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        path = save(tmp_path / "a.gif", colourful())  # written twice: by ffmpeg, and when its delays are set
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o600


def test_ffmpegs_scratch_folder_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    save(tmp_path / "a.mp4", colourful(), record={})
    save(tmp_path / "a.gif", colourful())
    assert list(scratch.iterdir()) == []
