"""What of a batch is to be done."""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mpvideo.batch.plan import Checker, Fate, Planned, Unusable, make_plan, stream_to_make
from mpvideo.batch.request import Request
from mpvideo.batch.resume import Finished
from mpvideo.batch.share import Share
from mpvideo.batch.sources import Sources
from mpvideo.checkpoint import open_checkpoint
from mpvideo.config import SamplingConfig
from mpvideo.errors import ExitCode, MPVideoError, OutputError, UsageError
from mpvideo.formats import STANDARD_OUTPUT, Encoding
from mpvideo.record import Record, Recorder
from mpvideo.video import VideoWriter
from tests.checkpoints import save_tiny, tiny_config

BAD = UsageError("no such class")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    path = save_tiny(tmp_path_factory.mktemp("ckpt") / "tiny.safetensors", tiny_config())
    return Sources(checkpoint=open_checkpoint(path))


def requests(sources: Sources, folder: Path, count: int, **changes: object) -> list[Request]:
    return [
        Request(
            **{
                "seed": seed, "class_index": 1, "index": seed, "sources": sources, "sampling": SamplingConfig(steps=3),
                "clamp": False, "path": folder / f"{seed}.gif", "frames": 4, "encoding": Encoding(8.0), **changes,
            }
        )
        for seed in range(count)
    ]  # fmt: skip


def write(request: Request, dtype: str = "float32") -> None:
    """Writes a file with the record that it would have."""
    own, _ = request.sources.weights()
    recorder = Recorder(request.sources.checkpoint, sha256=own.sha256, dtype=dtype, device="cpu", torch="0")
    record = recorder.record(
        seed=request.seed, class_index=request.class_index, frames=request.frames, sampling=request.sampling,
        clamp=request.clamp, encoding=request.encoding,
    )  # fmt: skip
    with VideoWriter(
        request.path, width=8, height=8, channels=3, encoding=request.encoding, record=record.to_dict()
    ) as writer:
        writer.write(np.zeros((4, 8, 8, 3), np.uint8))


def checker(*, share: Share | None = None, dtype: str | None = None, overwrite: bool = False) -> Checker:
    return Checker(share=share or Share(), finished=Finished(dtype), overwrite=overwrite)


class Told:
    def __init__(self) -> None:
        self.there: list[int] = []
        self.errors: dict[int, MPVideoError] = {}

    def found(self, request: Request) -> None:
        self.there.append(request.index)

    def refused(self, planned: Planned, error: MPVideoError) -> None:
        self.errors[planned.index] = error


def outcome(source: Iterable[Planned], look: Checker) -> tuple[list[int], list[int], dict[int, MPVideoError]]:
    """What is to be made, what is there, and what cannot be; the stream and the plan say the same."""
    told, streamed = Told(), Told()
    plan = make_plan(source, look)
    to_make = [request.index for request in plan.to_make(told)]
    assert to_make == [
        request.index for request in stream_to_make(source, dataclasses_copy(look), streamed) if request is not None
    ]
    assert (told.there, told.errors.keys()) == (streamed.there, streamed.errors.keys())
    assert plan.count(Fate.MAKE) == len(to_make)
    return to_make, told.there, told.errors


def dataclasses_copy(look: Checker) -> Checker:
    return Checker(share=look.share, finished=look._finished, overwrite=look._overwrite)


def test_what_is_there_is_not_made_again(sources: Sources, tmp_path: Path) -> None:
    wanted = requests(sources, tmp_path, 5)
    for seed in (1, 3):
        write(wanted[seed])
    assert outcome(wanted, checker()) == ([0, 2, 4], [1, 3], {})
    assert outcome(wanted, checker(overwrite=True)) == ([0, 2, 4], [1, 3], {})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sampling": SamplingConfig(steps=4)}, "made with other settings: sampling.steps 3 instead of 4"),
        ({"class_index": 2}, "class 1 instead of 2"),
        ({"seed": 7}, "seed 0 instead of 7"),
        ({"clamp": True}, "clamp False instead of True"),
        ({"frames": 3}, "frames 4 instead of 3"),
        ({"encoding": Encoding(9.0)}, "encoding.fps 8.0 instead of 9.0"),
        ({"exact": True}, "exact False instead of True"),
        ({"metadata": False}, "what was made with --no-metadata cannot be recognised"),
    ],
)
def test_another_video_under_the_name(sources: Sources, tmp_path: Path, changes: dict[str, object], words: str) -> None:
    write(requests(sources, tmp_path, 1)[0])
    other = requests(sources, tmp_path, 1, **{"path": tmp_path / "0.gif", **changes})
    to_make, there, errors = outcome(other, checker())
    assert (to_make, there) == ([], [])
    assert isinstance(errors[0], OutputError)
    assert words in errors[0].message
    assert "-y" in (errors[0].hint or "")
    assert outcome(other, checker(overwrite=True)) == ([0], [], {})


def test_settings_that_take_turns_are_written_once(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [SamplingConfig(steps=3), SamplingConfig(steps=4)]
    wanted = [dataclasses.replace(each, sampling=settings[each.index % 2]) for each in requests(sources, tmp_path, 6)]
    for each in wanted:
        write(each)
    written: list[SamplingConfig] = []
    record = Recorder.record

    def note(recorder: Recorder, **of: Any) -> Record:
        written.append(of["sampling"])
        return record(recorder, **of)

    monkeypatch.setattr(Recorder, "record", note)
    plan = make_plan(wanted, checker())
    assert (plan.count(Fate.FOUND), written) == (6, settings)


def test_other_weights_under_the_name(sources: Sources, tmp_path: Path) -> None:
    path = save_tiny(tmp_path / "other.safetensors", tiny_config(dim=12))
    write(requests(Sources(checkpoint=open_checkpoint(path)), tmp_path, 1)[0])
    _, _, errors = outcome(requests(sources, tmp_path, 1), checker())
    assert "checkpoint.sha256" in errors[0].message


def test_the_dtype_counts_only_if_it_was_asked_for(sources: Sources, tmp_path: Path) -> None:
    wanted = requests(sources, tmp_path, 1)
    write(wanted[0], "bfloat16")
    assert outcome(wanted, checker())[1] == [0]
    assert outcome(wanted, checker(dtype="bfloat16"))[1] == [0]
    assert "dtype bfloat16 instead of float32" in outcome(wanted, checker(dtype="float32"))[2][0].message


def test_files_that_say_nothing(sources: Sources, tmp_path: Path) -> None:
    wanted = requests(sources, tmp_path, 2)
    wanted[0].path.write_text("mine")
    with VideoWriter(wanted[1].path, width=8, height=8, channels=3, encoding=Encoding(8.0)) as writer:
        writer.write(np.zeros((4, 8, 8, 3), np.uint8))
    errors = outcome(wanted, checker())[2]
    assert errors[0].message.endswith("0.gif exists already, and cannot be read as a video")
    assert errors[1].message.endswith("1.gif exists already, and does not say how it was made")


def test_a_link_that_leads_nowhere_is_no_video_in_the_way(sources: Sources, tmp_path: Path) -> None:
    (tmp_path / "0.gif").symlink_to("elsewhere.gif")
    (tmp_path / "1.gif").symlink_to("1.gif")
    to_make, _, errors = outcome(requests(sources, tmp_path, 2), checker())
    assert to_make == [0]
    assert errors[1].message.endswith("1.gif is a symbolic link that leads to itself")


def test_videos_that_are_not_whole(sources: Sources, tmp_path: Path) -> None:
    encoding = Encoding(8.0, format="png")
    wanted = [
        dataclasses.replace(each, path=tmp_path / f"{each.seed}", encoding=encoding)
        for each in requests(sources, tmp_path, 3)
    ]
    wanted += [
        dataclasses.replace(each, path=tmp_path / f"{each.seed}.mp4", index=3 + each.seed)
        for each in requests(sources, tmp_path, 2)
    ]
    for request in wanted:
        write(request)
    assert outcome(wanted, checker())[1] == [0, 1, 2, 3, 4]
    (tmp_path / "0" / "frame-000004.png").unlink()
    (tmp_path / "1" / "frame-000003.png").write_bytes(b"garbage")
    os.truncate(tmp_path / "0.mp4", (tmp_path / "0.mp4").stat().st_size * 85 // 100)
    _, there, errors = outcome(wanted, checker())
    assert there == [2, 4]
    for index, words in (
        (0, "with 3 frames of 4"),
        (1, "and cannot be read as a video"),
        (3, "and cannot be read as a video"),
    ):
        assert errors[index].message == f"{wanted[index].path} exists already, {words}"
    assert outcome(wanted, checker(overwrite=True)) == ([0, 1, 3], [2, 4], {})


def test_a_record_of_an_older_version_is_understood(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys that came later have defaults that mean what was done before."""
    wanted = requests(sources, tmp_path, 1)
    write(wanted[0])
    from mpvideo.video import read_record

    data = read_record(wanted[0].path)
    assert data is not None
    del data["exact"]
    monkeypatch.setattr("mpvideo.video.read_record", lambda path: data)
    monkeypatch.setattr("mpvideo.record.read_record", lambda path: data)
    assert outcome(wanted, checker())[1] == [0]


def test_two_requests_of_one_file(sources: Sources, tmp_path: Path) -> None:
    wanted = requests(sources, tmp_path, 3)
    twice = [*wanted, dataclasses.replace(wanted[1], index=3)]
    with pytest.raises(UsageError, match=r"number 1 \(seed 1\) and number 3 \(seed 1\) both give"):
        make_plan(twice, checker())
    told = Told()
    assert len([*stream_to_make(twice, checker(), told)]) == 3
    assert "is the file of an earlier job already" in told.errors[3].message


def test_one_unusable_job_among_others(sources: Sources, tmp_path: Path) -> None:
    wanted: list[Planned] = [*requests(sources, tmp_path, 3)]
    wanted[1] = Unusable(index=1, where="line 2", error=BAD)
    assert outcome(wanted, checker()) == ([0, 2], [], {1: BAD})


def test_a_share_of_them(sources: Sources, tmp_path: Path) -> None:
    wanted: list[Planned] = [*requests(sources, tmp_path, 6)]
    wanted[3:5] = (Unusable(index=index, where=f"line {index + 1}", error=BAD) for index in (3, 4))
    write(wanted[2])
    parts = [outcome(wanted, checker(share=Share(number, 3))) for number in (1, 2, 3)]
    assert parts == [([0], [], {3: BAD}), ([1], [], {4: BAD}), ([5], [2], {})]
    assert [make_plan(wanted, checker(share=Share(number, 3))).mine for number in (1, 2, 3)] == [2, 2, 2]


def test_a_share_of_a_stream(sources: Sources, tmp_path: Path) -> None:
    """What is wrong is told by one process alone; and what one makes, no other does under the same name."""
    wanted = requests(sources, tmp_path, 6)
    wanted[3] = dataclasses.replace(wanted[3], path=wanted[1].path)
    wanted[4] = dataclasses.replace(wanted[4], path=STANDARD_OUTPUT)
    made, refused = [], []
    for number in (1, 2, 3):
        told = Told()
        stream = stream_to_make(wanted, checker(share=Share(number, 3)), told)
        made.append([request.index for request in stream if request is not None])
        refused.append([*told.errors])
    assert (made, refused) == ([[0], [1], [2, 5]], [[3], [4], []])


def test_checkpoint_after_checkpoint(sources: Sources, tmp_path: Path) -> None:
    """Three that take turns; what is there already is told of in the first turn, and none is gone through in vain."""
    paths = [save_tiny(tmp_path / f"{number}.safetensors", tiny_config(dim=12)) for number in range(2)]
    several = [sources, *(Sources(checkpoint=open_checkpoint(path)) for path in paths)]
    wanted = [dataclasses.replace(each, sources=several[each.index % 3]) for each in requests(sources, tmp_path, 9)]
    write(wanted[5])

    class Source:
        def __init__(self) -> None:
            self.given: list[int] = []

        def __iter__(self) -> Iterator[Planned]:
            return iter(wanted)

        def select(self, chosen: Callable[[range], bool]) -> Iterator[Planned]:
            for each in wanted:
                if chosen(range(each.index, each.index + 1)):
                    self.given.append(each.index)
                    yield each

    source, told = Source(), Told()
    plan = make_plan(source, checker(share=Share(2, 2)))
    assert [request.index for request in plan.to_make(told)] == [1, 7, 3]
    assert told.there == [5]
    assert source.given == [1, 5, 7, 3]
    assert [request.index for request in make_plan(wanted, checker()).to_make(told)] == [0, 3, 6, 1, 4, 7, 2, 8]


def test_a_name_that_no_system_has(sources: Sources, tmp_path: Path) -> None:
    (wanted,) = requests(sources, tmp_path, 1, path=tmp_path / f"{'x' * 300}.gif")
    assert "could not be written" in outcome([wanted], checker())[2][0].message
    inside, good = requests(sources, tmp_path / ("x" * 300), 1)[0], requests(sources, tmp_path, 2)[1]
    inside = dataclasses.replace(inside, makes_folders=True)
    assert outcome([inside, good], checker())[0] == [0, 1], "that its folder cannot be made is found out then"


def test_a_folder_that_is_missing_or_to_be_made(sources: Sources, tmp_path: Path) -> None:
    wanted = requests(sources, tmp_path / "no", 2)
    errors = outcome(wanted, checker())[2]
    for seed in range(2):
        assert errors[seed].exit_code == ExitCode.OUTPUT
        assert errors[seed].message == f"the folder {tmp_path / 'no'} does not exist"
    assert outcome([dataclasses.replace(request, makes_folders=True) for request in wanted], checker())[0] == [0, 1]
    assert not (tmp_path / "no").exists(), "looking makes nothing"
    (tmp_path / "0.gif").mkdir()  # above the folder that is to be made
    assert outcome([dataclasses.replace(request, makes_folders=True) for request in wanted], checker())[0] == [0, 1]


def test_what_was_put_right_since_the_first_look_is_made(sources: Sources, tmp_path: Path) -> None:
    wanted = requests(sources, tmp_path, 1)
    wanted[0].path.write_text("mine")
    plan = make_plan(wanted, checker())
    assert plan.count(Fate.REFUSED) == 1
    wanted[0].path.unlink()
    assert [*plan.to_make(Told())] == wanted


def test_a_job_that_can_be_read_by_now_takes_its_name(sources: Sources, tmp_path: Path) -> None:
    good = requests(sources, tmp_path, 3)
    good[1] = dataclasses.replace(good[1], path=good[0].path)
    wanted: list[Planned] = [good[0], *(Unusable(index=index, where="a line", error=BAD) for index in (1, 2))]
    plan, told = make_plan(wanted, checker(overwrite=True)), Told()
    assert plan.count(Fate.UNNAMED) == 2
    wanted[1:] = good[1:]
    assert [*plan.to_make(told)] == [good[0], good[2]]
    assert "is the file of an earlier job already" in told.errors[1].message


def test_what_the_source_gives_no_more_is_refused(sources: Sources, tmp_path: Path) -> None:
    wanted = requests(sources, tmp_path, 6)
    write(wanted[4])
    plan, told = make_plan(wanted, checker(share=Share(1, 2))), Told()
    del wanted[1:]
    assert [*plan.to_make(told)] == wanted
    assert (told.there, [*told.errors]) == ([], [2, 4])
    assert told.errors[2].message == "the jobs have changed: there are fewer than at the first look"


def test_no_spelling_of_a_file_that_is_needed_is_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On disks that do not tell cases apart."""
    monkeypatch.setattr("mpvideo.files.sys", SimpleNamespace(platform="win32"))
    look = Checker(share=Share(), finished=Finished(None), overwrite=True, journal=tmp_path / "Jobs.journal")
    look.check_kept("--out", tmp_path / "other.journal")
    with pytest.raises(UsageError, match="--out must not be the file of --journal, got "):
        look.check_kept("--out", tmp_path / "jobs.JOURNAL")
