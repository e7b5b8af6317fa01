import errno
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mpvideo.errors import ExitCode, OutputError
from mpvideo.files import atomic_path, check_writable, irregular, reason

linux_only = pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs Linux's /proc")


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def failing(code: int) -> Callable[..., int]:
    """A system call that fails with this error."""

    def fail(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    return fail


def write(target: Path, content: bytes, *, overwrite: bool = False) -> None:
    with atomic_path(target, overwrite=overwrite) as aside:
        aside.write_bytes(content)


def refusal(target: Path, *, overwrite: bool = False) -> OutputError:
    """The error before any work; writing must end in the same one."""
    with pytest.raises(OutputError) as first:
        check_writable(target, overwrite=overwrite)
    with pytest.raises(OutputError) as second, atomic_path(target, overwrite=overwrite):
        raise AssertionError("the block must not run")
    error = first.value
    assert (error.message, error.hint) == (second.value.message, second.value.hint)
    assert error.exit_code == ExitCode.OUTPUT == 5
    assert error.hint and error.hint[0].isupper() and error.hint.endswith(".")
    assert not error.message.endswith(".") and error.message.isprintable()
    return error


def test_appears_only_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "out.mp4"
    with atomic_path(target) as aside:
        aside.write_bytes(b"new")
        assert not target.exists() and aside.parent == tmp_path and aside.suffix == ".mp4"
        assert aside.name.startswith(".mpvideo-") and len(aside.name) < 32
    assert target.read_bytes() == b"new" and names(tmp_path) == ["out.mp4"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_any_failure_leaves_the_target_alone(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "out"
    target.write_bytes(b"old")
    with pytest.raises(error), atomic_path(target, overwrite=True) as aside:
        aside.write_bytes(b"half")
        raise error
    assert target.read_bytes() == b"old" and names(tmp_path) == ["out"]


@pytest.mark.parametrize("call", ["replace", "fsync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_failing_system_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int) -> None:
    monkeypatch.setattr(os, call, failing(code))
    target = tmp_path / "out"
    target.write_bytes(b"old")
    with pytest.raises(OutputError) as caught:
        write(target, b"new", overwrite=True)
    if code == errno.EIO:
        assert caught.value.message == f"{target} could not be written: input/output error"
        assert caught.value.hint == "Choose another name, folder or disk."
    else:
        assert caught.value.message == f"the disk is full: {target} could not be written"
        assert caught.value.hint == "Free some space, or write to another disk."
    assert caught.value.exit_code == ExitCode.OUTPUT
    assert target.read_bytes() == b"old" and names(tmp_path) == ["out"]


def test_a_full_disk_inside_the_block(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the disk is full"), atomic_path(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_synced_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, synced = os.fsync, []

    def fsync(descriptor: int) -> None:
        synced.append(os.path.isdir(f"/proc/self/fd/{descriptor}"))  # noqa: PTH112
        if len(synced) == 2:
            raise OSError(errno.EINVAL, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write(tmp_path / "out", b"new")
    assert synced in ([False, True], [False, False]) and names(tmp_path) == ["out"]


@pytest.mark.parametrize("links", [True, False])
def test_an_existing_file_is_kept_even_one_that_appears_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:  # as on FAT
        monkeypatch.setattr(os, "link", failing(errno.EPERM))
    target = tmp_path / "out"
    with pytest.raises(OutputError, match="exists already"), atomic_path(target) as aside:
        aside.write_bytes(b"mine")
        target.write_bytes(b"theirs")
    error = refusal(target)
    assert error.message == f"{target} exists already"
    assert error.hint == "Choose another name, or give -y to overwrite it."
    check_writable(target, overwrite=True)
    assert target.read_bytes() == b"theirs" and names(tmp_path) == ["out"]
    write(target, b"mine", overwrite=True)
    assert target.read_bytes() == b"mine" and names(tmp_path) == ["out"]


def test_file_systems_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", failing(errno.EOPNOTSUPP))
    write(tmp_path / "out", b"new")
    assert (tmp_path / "out").read_bytes() == b"new" and names(tmp_path) == ["out"]


def test_checking_leaves_nothing(tmp_path: Path) -> None:
    check_writable(tmp_path / "out")
    assert names(tmp_path) == []


def test_folders_that_are_none(tmp_path: Path) -> None:
    error = refusal(tmp_path / "not there" / "out")
    assert error.message == f"the folder {tmp_path / 'not there'} does not exist"
    assert error.hint == f"Run `mkdir -p '{tmp_path / 'not there'}'` first."
    (tmp_path / "file").touch()
    assert "must be a folder" in refusal(tmp_path / "file" / "out").message
    assert "does not exist" in refusal(tmp_path / "file" / "deeper" / "out").message


def test_the_command_for_a_missing_folder_is_whole(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["long folder"] * 30)
    assert refusal(deep / "out").hint == f"Run `mkdir -p '{deep}'` first."
    assert str(deep) in refusal(deep / "out").message
    assert refusal(tmp_path / "line\nbreak" / "out").hint == "Make that folder first."


def test_targets_that_are_no_files(tmp_path: Path) -> None:
    (tmp_path / "folder.mp4").mkdir()
    error = refusal(tmp_path / "folder.mp4", overwrite=True)
    assert error.message == f"{tmp_path / 'folder.mp4'} must be a file, but is a folder"
    assert error.hint == f"For example {tmp_path / 'folder.mp4' / 'name.mp4'}."
    assert "is a folder" in refusal(Path("/"), overwrite=True).message
    os.mkfifo(tmp_path / "pipe")
    assert "must be a regular file" in refusal(tmp_path / "pipe", overwrite=True).message
    assert "must be a regular file" in refusal(Path("/dev/null"), overwrite=True).message
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "symbolic link that leads to itself" in refusal(tmp_path / "loop", overwrite=True).message


def test_names_that_cannot_be(tmp_path: Path) -> None:
    error = refusal(tmp_path / ("n" * 300))
    assert error.message.endswith("could not be written: file name too long")
    assert error.hint == "Choose a shorter name."
    assert "could not be written" in refusal(tmp_path / "a\0b").message
    assert "could not be written" in refusal(tmp_path / "\ud800").message
    assert "line\\nbreak" in refusal(tmp_path / "line\nbreak" / "none").message


def test_longest_names_are_fine(tmp_path: Path) -> None:
    for name in ("n" * 255, "n." + "é" * 126):
        write(tmp_path / name, b"x")
        assert names(tmp_path) == [name]
        (tmp_path / name).unlink()


def test_relative_names_are_named_as_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("out"), b"new")
    assert refusal(Path("out")).message == "out exists already"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    real, link = tmp_path / "folder" / "real", tmp_path / "link"
    real.parent.mkdir()
    link.symlink_to(real)
    write(link, b"one")  # it leads nowhere yet
    assert link.is_symlink() and real.read_bytes() == b"one"
    assert "real exists already" in refusal(link).message
    write(link, b"two", overwrite=True)
    assert link.is_symlink() and real.read_bytes() == b"two"
    assert names(real.parent) == ["real"]


@pytest.mark.parametrize("umask", [0o022, 0o077])
@pytest.mark.parametrize("overwrite", [True, False])
def test_the_mode_follows_the_umask(tmp_path: Path, umask: int, overwrite: bool) -> None:
    before = os.umask(umask)
    try:
        write(tmp_path / "out", b"new", overwrite=overwrite)
    finally:
        os.umask(before)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o666 & ~umask


@pytest.fixture
def ordinary_user() -> Iterator[None]:
    """Root may write anywhere: be nobody for a while."""
    if os.geteuid() != 0:
        yield
        return
    try:
        os.seteuid(65534)
    except OSError:
        pytest.skip("runs as root and cannot be anybody else")
    try:
        yield
    finally:
        os.seteuid(0)


def test_read_only_folder(request: pytest.FixtureRequest) -> None:
    with tempfile.TemporaryDirectory() as name:  # tmp_path would lie in a folder closed to others
        folder = Path(name)
        folder.chmod(0o555)
        request.getfixturevalue("ordinary_user")
        error = refusal(folder / "out")
        if os.getuid() == 0:
            os.seteuid(0)
        folder.chmod(0o755)
    assert error.message == f"{folder / 'out'} could not be written: permission denied"
    assert error.hint == "Choose a folder you may write to."


@linux_only
def test_a_folder_that_takes_no_files_whoever_asks() -> None:
    assert refusal(Path("/proc/out")).message.startswith("/proc/out could not be written: ")


def test_read_only_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "open", failing(errno.EROFS))
        error = refusal(tmp_path / "out")
    assert error.message == f"{tmp_path / 'out'} could not be written: read-only file system"
    assert error.hint == "The file system is read-only: choose another folder."


@pytest.mark.parametrize(("platform", "refusals"), [("linux", 0), ("win32", 2), ("win32", 5)])
def test_windows_lets_nothing_be_replaced_that_is_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, platform: str, refusals: int
) -> None:
    """For a moment: it is waited for a while."""
    left, waits, own = [refusals], list[float](), Path.replace

    def replace(self: Path, target: Path) -> None:
        if left[0]:
            left[0] -= 1
            raise PermissionError(errno.EACCES, "Access is denied")
        own(self, target)

    monkeypatch.setattr("mpvideo.files.sys.platform", platform)
    monkeypatch.setattr("mpvideo.files.time.sleep", waits.append)
    monkeypatch.setattr(Path, "replace", replace)
    (tmp_path / "a").write_text("old")
    for text in ("new", "newer"):
        with atomic_path(tmp_path / "a", overwrite=True) as aside:
            aside.write_text(text)
    assert (tmp_path / "a").read_text() == "newer" and len(waits) == refusals
    left[0] = 6 if platform == "win32" else 1
    words = "cannot be replaced" if platform == "win32" else "could not be written"
    with pytest.raises(OutputError, match=words), atomic_path(tmp_path / "a", overwrite=True) as aside:
        aside.write_text("newest")
    assert (tmp_path / "a").read_text() == "newer" and [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_a_path_is_that_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert irregular(tmp_path / "loop") == "a link that leads to itself"
    for name, kind in (("file", None), ("nothing", None), ("dangling", None), ("link", "a folder"), (".", "a folder")):
        assert irregular(tmp_path / name) == kind
    for path in (tmp_path / "pipe", Path("/dev/null")):
        assert irregular(path) == "a pipe, socket or device"
    with pytest.raises(OSError, match="too long"):
        irregular(tmp_path / ("x" * 300))  # as where the system does not tell


def test_reasons_are_clauses() -> None:
    assert reason(OSError(errno.EIO, "Input/output error")) == "input/output error"
    assert reason(OSError(errno.EIO, "RPC failed")) == "RPC failed"
    assert reason(ValueError("Odd\x1b[31m")) == "odd\\x1b[31m"


def test_bytes_are_on_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def noted(call: str) -> None:
        real = getattr(os, call)

        def wrapper(*arguments: object, **options: object) -> object:
            kind = call
            if call == "fsync":
                kind += " folder" if stat.S_ISDIR(os.fstat(arguments[0]).st_mode) else " file"  # type: ignore[call-overload]
            calls.append(kind)
            return real(*arguments, **options)

        monkeypatch.setattr(os, call, wrapper)

    for call in ("fsync", "link", "replace"):
        noted(call)
    write(tmp_path / "out", b"new")
    assert calls == ["fsync file", "link", "fsync folder"]
    calls.clear()
    write(tmp_path / "out", b"newer", overwrite=True)
    assert calls == ["fsync file", "replace", "fsync folder"]
