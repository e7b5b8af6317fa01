"""Videos made and written, one after the other, whatever goes wrong with some."""

import dataclasses
import gc
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from mpvideo import generation
from mpvideo.batch.request import Request
from mpvideo.batch.resume import Finished
from mpvideo.batch.runner import make_videos
from mpvideo.batch.sources import Sources
from mpvideo.checkpoint import open_checkpoint
from mpvideo.config import SamplingConfig
from mpvideo.device import choose_placement
from mpvideo.errors import CheckpointError, MPVideoError, OutOfMemoryError, OutputError
from mpvideo.formats import Encoding
from mpvideo.generation import Video
from mpvideo.job import Job
from mpvideo.model import Model
from mpvideo.record import Record, load_record
from mpvideo.video import VideoWriter
from tests.checkpoints import save_tiny, tiny_config

PLACEMENT = choose_placement("cpu", "float32")


class Told:
    """Takes note of what it is told; stops after so many evaluations."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.made_: list[int] = []
        self.found_: list[int] = []
        self.failed_: dict[int, MPVideoError] = {}
        self.evaluations, self._stop_after = 0, stop_after
        self.threads: set[threading.Thread] = set()

    def evaluated(self, samples: int) -> None:
        self.evaluations += samples

    def smaller_batch(self, tried: int, size: int) -> None: ...

    def warn(self, words: str) -> None: ...

    def made(self, video: Video[Request], record: Record, size: tuple[int, int]) -> None:
        assert load_record(video.job.path) == record
        self.made_.append(video.job.index)
        self.threads.add(threading.current_thread())

    def found(self, request: Request) -> None:
        self.found_.append(request.index)

    def failed(self, request: Request, error: MPVideoError) -> None:
        self.failed_[request.index] = error

    def stopping(self) -> bool:
        return self._stop_after is not None and self.evaluations >= self._stop_after


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[Sources, Model]:
    """Three checkpoints, loaded."""
    folder = tmp_path_factory.mktemp("ckpt")
    both = [
        Sources(checkpoint=open_checkpoint(save_tiny(folder / f"{dim}.safetensors", tiny_config(dim=dim))))
        for dim in (8, 12, 16)
    ]
    return {sources: sources.load(PLACEMENT) for sources in both}


def request(sources: Sources, folder: Path, index: int, *, steps: int = 2, **changes: object) -> Request:
    return Request(
        **{
            "seed": index, "class_index": 1, "index": index, "sources": sources, "clamp": False,
            "sampling": SamplingConfig(steps=steps, sampler="euler"), "path": folder / f"{index}.gif", "frames": 4,
            "encoding": Encoding(8.0, scale=1), **changes,
        }
    )  # fmt: skip


def run(
    requests: Iterable[Request | None], models: dict[Sources, Model], told: Told, batch_size: int = 2, **options: object
) -> Told:
    make_videos(
        requests,
        **{"load": models.__getitem__, "batch_size": batch_size, "overwrite": False, "watcher": told, **options},
    )
    return told


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_videos_are_written_while_others_are_sampled(
    models: dict[Sources, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first file is not done before the network works on the second batch; all is reported in this thread."""
    sampling_again, write = threading.Event(), VideoWriter.write

    def wait(writer: VideoWriter, frames: object) -> None:
        assert sampling_again.wait(30)
        write(writer, frames)  # type: ignore[arg-type]

    class Watching(Told):
        def evaluated(self, samples: int) -> None:
            super().evaluated(samples)
            if self.evaluations > 4:
                sampling_again.set()

    monkeypatch.setattr(VideoWriter, "write", wait)
    requests = [request(next(iter(models)), tmp_path, index) for index in range(4)]
    told = run(requests, models, Watching())
    assert (told.made_, told.failed_, told.threads) == ([0, 1, 2, 3], {}, {threading.current_thread()})
    assert left(tmp_path) == ["0.gif", "1.gif", "2.gif", "3.gif"]


def test_a_record_that_cannot_be_costs_its_video_alone(models: dict[Sources, Model], tmp_path: Path) -> None:
    sources, model = next(iter(models.items()))
    nameless = dataclasses.replace(sources, name="no/name/of/a/file")
    both = {sources: model, nameless: dataclasses.replace(model, name=nameless.name)}
    told = run([request(each, tmp_path, index) for index, each in enumerate((nameless, sources))], both, Told())
    assert told.made_ == [1] and [*told.failed_] == [0] and left(tmp_path) == ["1.gif"]
    assert told.failed_[0].message.startswith("how it was made cannot be recorded: name must be of a file, ")


def test_what_fits_is_brought_together(
    models: dict[Sources, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that take turns in checkpoint, steps and exactness: whole batches, each checkpoint is asked for once."""
    batches, loads, sample = [], [], generation._sample

    def note(model: Model, jobs: list[Job], on_evaluation: object) -> object:
        batches.append([job.seed for job in jobs])
        return sample(model, jobs, on_evaluation)  # type: ignore[arg-type]

    def load(sources: Sources) -> Model:
        loads.append(sources)
        return models[sources]

    monkeypatch.setattr(generation, "_sample", note)
    those = [*models]
    requests = [
        request(those[index % 3], tmp_path, index, steps=2 if index % 6 < 3 else 3, exact=index == 6)
        for index in range(15)
    ]
    told = run(requests, models, Told(), load=load)
    assert batches == [[0, 12], [3, 9], [6], [1, 7], [13], [4, 10], [2, 8], [14], [5, 11]]
    assert sorted(told.made_) == [*range(15)]
    assert loads == those


def test_a_stream_goes_on_with_the_checkpoint_that_is_there(models: dict[Sources, Model], tmp_path: Path) -> None:
    """Two windows, each with three checkpoints that take turns: the second begins with what the first ended with."""
    loads: list[Sources] = []

    def load(sources: Sources) -> Model:
        loads.append(sources)
        return models[sources]

    first, second, third = models
    requests = [request([*models][index % 3], tmp_path, index, steps=1) for index in range(19)]
    told = run(requests, models, Told(), load=load, batch_size=1)
    assert sorted(told.made_) == [*range(19)]
    assert loads == [first, second, third, second, first]


def test_a_model_is_dropped_before_the_next_is_loaded(models: dict[Sources, Model], tmp_path: Path) -> None:
    alive: list[weakref.ref[Model]] = []

    def load(sources: Sources) -> Model:
        gc.collect()
        assert [each for each in alive if each() is not None] == []
        model = sources.load(PLACEMENT)
        alive.append(weakref.ref(model))
        return model

    requests = [request(sources, tmp_path, index) for index, sources in enumerate(models)]
    told = run(requests, models, Told(), load=load)
    assert (told.made_, told.failed_, len(alive)) == ([0, 1, 2], {}, 3)


def test_a_smaller_batch_stays_smaller(
    models: dict[Sources, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What did not fit once is not tried again with this checkpoint, only with another one."""
    tried, sample = [], generation._sample

    def little_memory(model: Model, jobs: list[Job], on_evaluation: object) -> object:
        tried.append(len(jobs))
        if len(jobs) > 2:
            raise OutOfMemoryError("not enough memory")
        return sample(model, jobs, on_evaluation)  # type: ignore[arg-type]

    monkeypatch.setattr(generation, "_sample", little_memory)
    first, second, _ = models

    def in_turns() -> Iterator[Request | None]:
        for index, sources in enumerate((first, second, first)):
            yield from (request(sources, tmp_path, 4 * index + number) for number in range(4))
            yield None

    told = run(in_turns(), models, Told(), batch_size=4)
    assert tried == [4, 2, 2, 4, 2, 2, 2, 2]
    assert told.made_ == [*range(12)]


def test_other_weights_than_those_that_were_meant(models: dict[Sources, Model], tmp_path: Path) -> None:
    def refuse(model: Model) -> None:
        raise CheckpointError("others")

    sources = next(iter(models))
    requests = [request(sources, tmp_path, index, check_model=refuse if index == 1 else None) for index in range(3)]
    told = run(requests, models, Told())
    assert told.made_ == [0, 2] and str(told.failed_[1]) == "others"


def test_a_pause_is_not_waited_out(models: dict[Sources, Model], tmp_path: Path) -> None:
    """A producer that sends the next job when it has seen the last one's video is not kept waiting."""
    told = Told()

    def one_by_one() -> Iterator[Request | None]:
        for index in range(3):
            yield request(next(iter(models)), tmp_path, index)
            yield None
            assert (tmp_path / f"{index}.gif").exists()

    run(one_by_one(), models, told, batch_size=4)
    assert told.made_ == [0, 1, 2]


def test_one_that_fails_does_not_touch_the_others(
    models: dict[Sources, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, _ = models
    good = [request(first, tmp_path, index) for index in range(6)]
    (tmp_path / "1.gif").write_text("in the way")
    bad = [
        good[0],
        good[1],
        dataclasses.replace(good[2], class_index=3),
        dataclasses.replace(good[3], sources=second),
        dataclasses.replace(good[4], path=tmp_path / "missing" / "4.gif"),
        good[5],
    ]

    def load(sources: Sources) -> Model:
        if sources is second:
            raise CheckpointError("damaged")
        return models[sources]

    told = run(bad, models, Told(), load=load)
    assert told.made_ == [0, 5]
    assert {index: str(error) for index, error in told.failed_.items() if index in (2, 3)} == {
        2: "class_index must be at most 2, got 3", 3: "damaged",
    }  # fmt: skip
    assert "exists already" in str(told.failed_[1]) and "does not exist" in str(told.failed_[4])
    assert left(tmp_path) == ["0.gif", "1.gif", "5.gif"]
    assert (tmp_path / "1.gif").read_text() == "in the way"


@pytest.mark.parametrize("batch_size", [1, 2])
def test_memory_that_is_missing_for_a_file_costs_that_file(
    models: dict[Sources, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    """It is not taken for memory that is missing for the batch which is being sampled at that time."""
    write, writers = VideoWriter.write, set()

    def too_large(writer: VideoWriter, frames: object) -> None:
        writers.add(writer)
        if len(writers) == 1:
            raise MemoryError("pictures")
        write(writer, frames)  # type: ignore[arg-type]

    class Whole(Told):
        def smaller_batch(self, tried: int, size: int) -> None:
            raise AssertionError("the batch had memory enough")

    monkeypatch.setattr(VideoWriter, "write", too_large)
    requests = [request(next(iter(models)), tmp_path, index) for index in range(6)]
    told = run(requests, models, Whole(), batch_size)
    assert told.made_ == [1, 2, 3, 4, 5] and [*told.failed_] == [0]
    assert isinstance(told.failed_[0], OutOfMemoryError)
    assert told.failed_[0].message == "not enough memory for writing one video"
    assert left(tmp_path) == [f"{index}.gif" for index in told.made_]


def test_a_wish_to_stop_drops_what_is_not_sampled(models: dict[Sources, Model], tmp_path: Path) -> None:
    """Two of three batches of two evaluations each are begun; the second is dropped at its first evaluation."""
    requests = [request(next(iter(models)), tmp_path, index) for index in range(6)]
    told = run(requests, models, Told(stop_after=6))
    assert told.made_ == [0, 1]
    assert (told.evaluations, left(tmp_path)) == (6, ["0.gif", "1.gif"])


def test_an_end_at_once_leaves_nothing_half_written(
    models: dict[Sources, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended, write = threading.Event(), threading.Event(), VideoWriter.write

    def slowly(writer: VideoWriter, frames: object) -> None:
        write(writer, frames)  # type: ignore[arg-type]
        begun.set()
        ended.wait(1)

    class Ending(Told):
        def evaluated(self, samples: int) -> None:
            super().evaluated(samples)
            if self.evaluations > 4:
                assert begun.wait(30)
                raise SystemExit(130)

    monkeypatch.setattr(VideoWriter, "write", slowly)
    requests = [request(next(iter(models)), tmp_path, index) for index in range(6)]
    told = Ending()
    with pytest.raises(SystemExit):
        run(requests, models, told)
    assert told.made_, "the one that was begun is finished"
    assert left(tmp_path) == [f"{index}.gif" for index in told.made_]


def test_the_first_error_in_telling_is_the_one_that_is_told(models: dict[Sources, Model], tmp_path: Path) -> None:
    class Failing(Told):
        def made(self, video: Video[Request], record: Record, size: tuple[int, int]) -> None:
            super().made(video, record, size)
            while not (tmp_path / "1.gif").exists():
                time.sleep(0.01)
            raise OutputError(f"nobody listens to {video.job.index}")

    told = Failing()
    with pytest.raises(OutputError, match="nobody listens to 0"):
        run([request(next(iter(models)), tmp_path, index) for index in range(2)], models, told)
    assert told.made_ == [0, 1]


def test_few_videos_wait_to_be_written(
    models: dict[Sources, Model], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sampling does not run away from a slow disk."""
    written, ahead, write = 0, [], VideoWriter.write

    def count(writer: VideoWriter, frames: object) -> None:
        nonlocal written
        write(writer, frames)  # type: ignore[arg-type]
        written += 1

    class Watching(Told):
        def evaluated(self, samples: int) -> None:
            super().evaluated(samples)
            ahead.append(self.evaluations / 2 - written)

    monkeypatch.setattr(VideoWriter, "write", count)
    requests = [request(next(iter(models)), tmp_path, index) for index in range(24)]
    run(requests, models, Watching())
    assert max(ahead) <= 2 * 2 + 2 + 1


def test_another_process_makes_the_same_at_once(models: dict[Sources, Model], tmp_path: Path) -> None:
    """Its files have exactly these settings: they are there. A file that is something else is left alone, and told."""
    requests = [request(next(iter(models)), tmp_path, index) for index in range(3)]

    class Other(Told):
        def evaluated(self, samples: int) -> None:
            if not self.evaluations:
                run(requests[:2], models, Told())
                requests[2].path.write_text("mine")
            super().evaluated(samples)

    told = run(requests, models, Other(), batch_size=3, is_there=Finished(None).__contains__)
    assert (told.made_, told.found_) == ([], [0, 1])
    assert told.failed_[2].message == f"{requests[2].path} exists already"
    assert requests[2].path.read_text() == "mine"
