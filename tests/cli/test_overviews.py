"""`sample --grid` and `--sheet`: all videos of a run in one, beside their own files."""

import json
from pathlib import Path

import pytest
from PIL import Image

from mpvideo import generation
from mpvideo.errors import OutputError
from mpvideo.formats import Encoding
from mpvideo.video import contact_sheet, grid, read_frames, read_record
from mpvideo.video.contact_sheet import GAP, MARGIN
from mpvideo.video.grid import Layout, grid_layout
from tests.cli.conftest import Program


def test_both(program: Program, ckpt: Path) -> None:
    done = program(
        "sample", "--ckpt", ckpt, "--class", "red dog", "--seed", "0-2", "--out", "{seed}.mkv", "--grid", "grid.mkv",
        "--sheet", "sheet.png",
    )  # fmt: skip
    assert done.code == 0, done.stderr
    assert done.stdout.split() == ["0.mkv", "1.mkv", "2.mkv", "grid.mkv", "sheet.png"]
    grid, rate = read_frames(Path("grid.mkv"))
    assert rate == 8
    layout = grid_layout(Path("grid.mkv"), 3, width=8, height=8, encoding=Encoding(8))
    for index in range(3):
        single, _ = read_frames(Path(f"{index}.mkv"))
        x, y = layout.place(index)
        tile = grid[:, y : y + layout.tile_height : layout.scale, x : x + layout.tile_width : layout.scale]
        assert (tile == single).all()
    with Image.open("sheet.png") as sheet:
        assert sheet.size[1] == MARGIN + 20 + 3 * (128 + GAP) - GAP + MARGIN


def test_captions_say_what_differs(program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions: list[str] = []
    for writer in (grid.GridWriter, contact_sheet.SheetWriter):
        add = writer.add
        monkeypatch.setattr(
            writer, "add", lambda self, f, caption, add=add: captions.append(caption) or add(self, f, caption)
        )
    both = ("--dtype", "float32", "--seed", 3, "--class", "red dog", "--grid", "g.mkv", "--sheet", "s.png", "-y")
    lists = ("--sampler", "heun,lms", "--steps", "1-2", "--guidance", "1,1.5")
    done = program("sample", "--ckpt", ckpt, *lists, *both, "--out", "{index}.gif")
    assert done.code == 0, done.stderr
    every = [f"red dog, seed 3, {sampler}, {steps}, guidance {guidance}" for sampler in ("heun", "lms")
             for steps in ("1 step", "2 steps") for guidance in ("1", "1.5")]  # fmt: skip
    assert captions[::2] == captions[1::2] == every
    pictures, _ = read_frames(Path("g.mkv"))
    assert pictures.shape[1:3] == Layout(3, 3, 16, 128, 128, caption_lines=5).size[::-1]
    captions.clear()
    assert program("sample", "--ckpt", ckpt, "--steps", "1,30", *both, "--out", "b{index}.gif").code == 0
    assert captions[::2] == ["red dog, seed 3, 1 step", "red dog, seed 3, 30 steps"], "both by heun, as the checkpoint"


def test_the_quality_of_another_format_is_its_own(program: Program, ckpt: Path) -> None:
    done = program("sample", "--ckpt", ckpt, "--lossless", "--out", "a.webm", "--grid", "a.gif")
    assert done.code == 0, done.stderr
    done = program("sample", "--ckpt", ckpt, "--crf", "60", "--out", "b.webm", "--grid", "b.mp4")
    assert done.code == 0, done.stderr


def test_json_tells_what_they_show(program: Program, ckpt: Path) -> None:
    done = program("sample", "--ckpt", ckpt, "--seed", "0,1", "--out", "{seed}.gif", "--grid", "g.gif", "--json")
    assert json.loads(done.stdout.splitlines()[-1]) == {"path": "g.gif", "videos": 2}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--grid", "grid.avi"], 2, "must end in .mp4, .webm"),
        (["--grid", "-"], 2, "a grid cannot go to standard output"),
        (["--sheet", "sheet.jpg"], 2, "the name of a contact sheet must end in .png, got 'sheet.jpg'"),
        (["--grid", "a.gif"], 2, "--grid and --sheet must have names of their own, got a.gif"),
        (["--grid", "s.png", "--sheet", "./s.png"], 2, "--grid and --sheet must have names of their own, got s.png"),
        (["--grid", "no/grid.mp4"], 5, "error: --grid: the folder "),
        (["--sheet", "no/sheet.png"], 5, "/no does not exist"),
        (["--sheet", "old.png"], 5, "error: --sheet old.png exists already"),
        (
            ["--grid", "{seed}.gif"],
            2,
            "whose name has no fields, got {seed} in '{seed}.gif'\nhint: Fields are for --out",
        ),
        (["--sheet", "{class:03d}.png"], 2, "whose name has no fields, got {class:03d} in"),
        (["--seed", "0-499", "--out", "{seed}.gif", "--sheet", "s.png"], 2, "shows at most 400 videos, got 500"),
    ],
)
def test_what_is_refused_before_any_work(
    program: Program, ckpt: Path, arguments: list[str], code: int, message: str
) -> None:
    Path("old.png").write_bytes(b"precious")
    out = [] if "--out" in arguments else ["--out", "a.gif"]
    done = program("sample", "--ckpt", ckpt, *out, *arguments)
    assert done.code == code
    assert message in done.stderr
    assert "sampling" not in done.stderr
    assert [path.name for path in Path().iterdir()] == ["old.png"]
    assert Path("old.png").read_bytes() == b"precious"


def test_existing_ones_are_replaced_when_told(program: Program, ckpt: Path) -> None:
    Path("old.png").write_bytes(b"old")
    assert program("sample", "--ckpt", ckpt, "--out", "a.gif", "--sheet", "old.png", "-y").code == 0
    assert Path("old.png").read_bytes().startswith(b"\x89PNG")
    # So is one where all videos are there: it may show others.
    Path("old.png").write_bytes(b"old")
    assert program("sample", "--ckpt", ckpt, "--out", "a.gif", "--sheet", "old.png", "-y").code == 0
    assert Path("old.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("method", ["add", "__exit__"])
@pytest.mark.parametrize(("fails", "lost", "kept"), [("Grid", "g.gif", "s.png"), ("Sheet", "s.png", "g.gif")])
def test_one_that_fails_takes_nothing_with_it(
    program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch, fails: str, lost: str, kept: str, method: str
) -> None:
    writer = {"Grid": grid.GridWriter, "Sheet": contact_sheet.SheetWriter}[fails]
    done = getattr(writer, method)

    def fail(self: object, *arguments: object) -> None:
        if isinstance(arguments[0], type):  # it is given up
            done(self, *arguments)
        else:
            raise OutputError(f"{lost} could not be written: no luck", hint="Try again.")

    options = ("sample", "--ckpt", ckpt, "--steps", 1, "--seed", "0-1", "--out", "{seed}.gif", "--grid", "g.gif")
    options += ("--sheet", "s.png")
    with monkeypatch.context() as patch:
        patch.setattr(writer, method, fail)
        outcome = program(*options)
    assert outcome.code == 5 and outcome.stdout.split() == ["0.gif", "1.gif", kept]
    assert outcome.stderr.endswith(f"2 made\nerror: {lost} could not be written: no luck\nhint: Try again.\n")
    assert sorted(path.name for path in Path().iterdir()) == sorted(["0.gif", "1.gif", kept])
    again = program(*options)
    assert again.code == 0 and again.stdout.split() == ["0.gif", "1.gif", "g.gif", "s.png"]


@pytest.mark.parametrize(("same", "code"), [(True, 0), (False, 5)])
def test_one_that_another_process_has_made_meanwhile(
    program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch, same: bool, code: int
) -> None:
    """The very same is no failure, something else is."""
    options = ("sample", "--ckpt", ckpt, "--steps", 1, "--seed", "0-1", "--out", "{seed}.gif", "--grid", "g.gif")
    assert program(*options).code == 0
    theirs = Path("g.gif").read_bytes() if same else b"something else"
    Path("g.gif").unlink()
    done = grid.GridWriter.__exit__

    def exit_late(self: grid.GridWriter, *arguments: object) -> None:
        Path("g.gif").write_bytes(theirs)
        done(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(grid.GridWriter, "__exit__", exit_late)
    outcome = program(*options)
    assert outcome.code == code, outcome.stderr
    assert outcome.stdout.split() == ["0.gif", "1.gif", *(["g.gif"] if same else [])]
    assert ("g.gif exists already" in outcome.stderr) is not same
    assert Path("g.gif").read_bytes() == theirs


def test_a_grid_that_could_not_be_replaced_is_not_told_as_made(
    program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that was there shows the same."""
    options = ("sample", "--ckpt", ckpt, "--steps", 1, "--out", "a.gif", "--grid", "g.gif")
    assert program(*options).code == 0
    done = grid.GridWriter.__exit__

    def full(self: grid.GridWriter, *arguments: object) -> None:
        done(self, OutputError, OutputError("the disk is full"), None)
        if arguments[0] is None:
            raise OutputError("the disk is full")

    monkeypatch.setattr(grid.GridWriter, "__exit__", full)
    outcome = program(*options, "-y")
    assert outcome.code == 5 and outcome.stdout.split() == ["a.gif"]
    assert "the disk is full" in outcome.stderr


@pytest.mark.parametrize(
    ("lists", "lines"),
    [
        (("--class", "0:1+1:2", "--seed", "3,4"), 5),
        (("--class", "0..2:3"), 5),
        (("--class", "0", "--seed", "3..8:3"), 3),
        (("--class", "0:1+1:1+2:1", "--seed", "3:1+8:2,4", "--steps", "1,2"), 9),
    ],
)
def test_captions_have_room_for_blends(program: Program, ckpt: Path, lists: tuple[str, ...], lines: int) -> None:
    done = program("sample", "--ckpt", ckpt, "--steps", 1, *lists, "--out", "{index}.mkv", "--grid", "g.mkv")
    assert done.code == 0, done.stderr
    pictures, _ = read_frames(Path("g.mkv"))
    count = len(list(Path().glob("*.mkv"))) - 1
    columns = {2: 2, 3: 2, 4: 2}[count]
    assert pictures.shape[1:3] == Layout(columns, -(-count // columns), 16, 128, 128, caption_lines=lines).size[::-1]


def test_there_is_none_while_a_video_is_missing(program: Program, ckpt: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And once it can be made, the same command makes it and them; every video is decoded once."""
    options = ("sample", "--ckpt", ckpt, "--steps", 1, "--class", 1, "--dtype", "float32", "--out", "{seed}.npy")
    options += ("--seed", "0-2", "--grid", "g.gif", "--sheet", "s.png", "--json", "--quiet")
    decoded, decode = [], generation._decode
    monkeypatch.setattr(generation, "_decode", lambda model, x: decoded.append(x) or decode(model, x))
    Path("1.npy").mkdir()
    done = program(*options)
    assert (done.code, len(decoded)) == (5, 2)
    assert [json.loads(line)["path"] for line in done.stdout.splitlines()] == ["0.npy", "2.npy"]
    for name in ("g.gif", "s.png"):
        assert f"error: {name} is not written: it shows all videos, and 1 video could not be made\n" in done.stderr
        assert not Path(name).exists()
    refused = program(*options)
    assert refused.code == 5 and len(refused.stdout.splitlines()) == 2, "nothing is to be made"
    Path("1.npy").rmdir()
    done = program(*options)
    assert (done.code, len(decoded)) == (0, 3), done.stderr
    assert [json.loads(line) for line in done.stdout.splitlines()[-2:]] == [
        {"path": "g.gif", "videos": 3}, {"path": "s.png", "videos": 3},
    ]  # fmt: skip
    assert program(*options).stdout.splitlines()[-2:] == done.stdout.splitlines()[-2:], "all is there"
    resumed = Path("g.gif").read_bytes()
    assert program(*options, "-y").code == 0 and Path("g.gif").read_bytes() == resumed
    for name in ("0.npy", "1.npy", "2.npy", "g.gif"):
        Path(name).unlink()
    assert program(*options, "-y").code == 0 and Path("g.gif").read_bytes() == resumed


def test_one_of_folders_of_frames_that_are_there(program: Program, ckpt: Path) -> None:
    options = ("sample", "--ckpt", ckpt, "--steps", 1, "--class", 1, "--dtype", "float32", "--quiet")
    options += ("--format", "png", "--seed", "0-1", "--out", "{seed}", "--grid")
    assert program(*options, "g.mkv").code == 0
    assert program(*options, "again.mkv").stdout.split() == ["0", "1", "again.mkv"]
    assert (read_frames(Path("again.mkv"))[0] == read_frames(Path("g.mkv"))[0]).all()


def _three(ckpt: Path, *more: object) -> tuple[object, ...]:
    """A command for three videos, a grid and a sheet."""
    own = ("--sampler", "auto", "--seed", "0-2", "--out", "{seed}.gif", "--grid", "g.gif", "--sheet", "s.png")
    return ("sample", "--ckpt", ckpt, *own, "--quiet", *more)


def test_the_same_command_finds_its_own(program: Program, ckpt: Path) -> None:
    """And makes them anew where a video is: from an earlier run that was interrupted, they may be stale."""
    assert program(*_three(ckpt, "--steps", 1)).code == 0
    names = ("g.gif", "s.png")
    stamps = [Path(name).stat().st_mtime_ns for name in names]
    for dtype in ("auto", read_record(Path("0.gif"))["dtype"]):
        again = program(*_three(ckpt, "--steps", 1, "--dtype", dtype))
        assert (again.code, again.stdout.split()) == (0, ["0.gif", "1.gif", "2.gif", *names]), again.stderr
        assert [Path(name).stat().st_mtime_ns for name in names] == stamps
    Path("1.gif").unlink()
    again = program(*_three(ckpt, "--steps", 1))
    assert (again.code, again.stdout.split()[-2:]) == (0, [*names]), again.stderr
    assert all(Path(name).stat().st_mtime_ns > stamp for name, stamp in zip(names, stamps, strict=True))
    # Made from found and new videos, they are known again all the same.
    stamps = [Path(name).stat().st_mtime_ns for name in names]
    assert program(*_three(ckpt, "--steps", 1)).code == 0
    assert [Path(name).stat().st_mtime_ns for name in names] == stamps


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("name", ["g.gif", "s.png"])
def test_those_of_another_command_are_refused(program: Program, ckpt: Path, name: str, missing: bool) -> None:
    assert program(*_three(ckpt, "--steps", 1)).code == 0
    other = Path(name).read_bytes()
    assert program(*_three(ckpt, "--steps", 2, "-y")).code == 0
    Path(name).write_bytes(other)
    if missing:
        Path("1.gif").unlink()
    option = {"g.gif": "--grid", "s.png": "--sheet"}[name]
    done = program(*_three(ckpt, "--steps", 2))
    assert (done.code, done.stdout) == (5, "")
    assert done.stderr == (
        f"error: {option} {name} exists already, and shows other videos, or is written otherwise\n"
        "hint: Choose another name, or give -y to replace it.\n"
    )
    assert Path(name).read_bytes() == other
    assert program(*_three(ckpt, "--steps", 2, "-y")).code == 0 and Path(name).read_bytes() != other


def test_what_does_not_say_what_it_shows_is_refused(program: Program, ckpt: Path) -> None:
    assert program(*_three(ckpt, "--steps", 1)).code == 0
    grid = Path("g.gif").read_bytes()
    Path("g.gif").write_bytes(Path("0.gif").read_bytes())
    done = program(*_three(ckpt, "--steps", 1))
    assert done.code == 5 and "--grid g.gif exists already, and does not say which videos it shows\n" in done.stderr
    Path("g.gif").write_bytes(grid)
    done = program(*_three(ckpt, "--steps", 1, "--loop", 3, "--out", "{seed}.apng"))
    assert done.code == 5 and "g.gif exists already, and shows other videos, or is written otherwise\n" in done.stderr
    assert program(*_three(ckpt, "--steps", 1, "--no-metadata", "-y")).code == 0
    assert read_record(Path("g.gif")) is None and read_record(Path("s.png")) is None
    for name in ("0.gif", "1.gif", "2.gif"):
        Path(name).unlink()
    done = program(*_three(ckpt, "--steps", 1, "--no-metadata"))
    assert done.code == 5 and "g.gif exists already, and what was made with --no-metadata cannot be" in done.stderr


@pytest.mark.parametrize("own", [("frames", "--format", "png"), ("a.webm", "--format", "av1"), ("a.gif",)])
def test_a_sheet_beside_videos_of_any_format(program: Program, ckpt: Path, own: tuple[str, ...]) -> None:
    command = ("sample", "--ckpt", ckpt, "--steps", 1, "--sheet", "s.png", "--out", *own)
    for _ in range(2):
        done = program(*command)
        assert (done.code, done.stdout.split()) == (0, [own[0], "s.png"]), done.stderr


def test_a_name_that_cannot_be_is_told_before_what_is_in_its_place(program: Program, ckpt: Path) -> None:
    for option, name in (("--sheet", "cats.jpg"), ("--grid", "notes.txt")):
        Path(name).write_bytes(b"precious")
        done = program("sample", "--ckpt", ckpt, "--out", "a.gif", option, name)
        assert done.code == 2 and "must end in " in done.stderr, done.stderr


def test_one_of_another_dtype(program: Program, ckpt: Path) -> None:
    assert program(*_three(ckpt, "--steps", 1, "--dtype", "float32")).code == 0
    for name in ("0.gif", "1.gif", "2.gif"):
        Path(name).unlink()
    done = program(*_three(ckpt, "--steps", 1, "--dtype", "bfloat16"))
    assert done.code == 5
    assert "g.gif exists already, and shows videos of the dtype float32 instead of bfloat16\n" in done.stderr


def test_those_that_are_made_in_another_order_are_known_again(program: Program, ckpt: Path) -> None:
    """Of equal settings, as heun and auto are here, videos are made together."""
    lists = ("--sampler", "heun,auto", "--steps", "1-2", "--out", "{index}.gif", "--grid", "g.gif")
    for _ in range(2):
        done = program("sample", "--ckpt", ckpt, *lists)
        assert done.code == 0, done.stderr


def test_a_grid_is_no_video(program: Program, ckpt: Path) -> None:
    assert program(*_three(ckpt, "--steps", 1)).code == 0
    done = program("sample", "--ckpt", ckpt, "--out", "g.gif")
    assert done.code == 5 and "error: g.gif exists already, and does not say how it was made\n" in done.stderr
    shown = program("inspect", "g.gif")
    assert shown.code == 0 and "A grid or sheet of several videos never does" in shown.stdout
