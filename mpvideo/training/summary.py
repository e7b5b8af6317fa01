"""What a run's folder says of the training, without torch.

The object that `summarize_run` returns, as `mpvideo inspect RUN --json` prints it under `run`. Where nothing is known,
a value is null.

    version         of mpvideo, that began it
    source          what it is trained on, as it was begun with
    recipe          how, see `mpvideo.training.recipe`
    step, samples   how far the log goes
    loss            mean of the last records of the log, over at most the last tenth of the samples
    loss_by_sigma   of the last record
    seconds         of training in all records of the log, pauses left out
    samples_per_second, learning_rate
                    of the last record
    nonfinite_gradients
                    in all records
"""

from pathlib import Path
from typing import Any

from mpvideo.checkpoint.header import RUN_FILE
from mpvideo.checkpoint.reading import exists, open_regular, read_json
from mpvideo.training.log import read_log

LOG_FILE = "log.jsonl"


def is_run(path: Path) -> bool:
    """Whether a path is the folder of a run.

    Raises:
        CheckpointError: the folder may not be entered.
    """
    return path.is_dir() and exists(path / RUN_FILE)


def summarize_run(folder: Path) -> dict[str, Any]:
    """Reads run.json and the log of a run, which may be going on.

    Raises:
        CheckpointError: one of them cannot be read, or run.json is no JSON object.
        MPVideoError: the log cannot be read.
    """
    begun = read_json(folder / RUN_FILE)
    log = folder / LOG_FILE
    if exists(log):
        open_regular(log).close()  # reading a pipe would wait for ever
    records = read_log(log)
    last = records[-1] if records else {}
    by_sigma = last.get("loss_by_sigma")
    samples = _number(last.get("samples"))
    late = [record for record in records if samples is None or (_number(record.get("samples")) or 0) >= 0.9 * samples]
    losses = [loss for record in late if (loss := _number(record.get("loss"))) is not None]
    return {
        "version": begun.get("version"),
        "source": begun.get("source"),
        "recipe": begun.get("recipe"),
        "step": last.get("step"),
        "samples": samples,
        "loss": sum(losses) / len(losses) if losses else None,
        "loss_by_sigma": {key: _number(loss) for key, loss in by_sigma.items()} if isinstance(by_sigma, dict) else None,
        "seconds": sum(_number(record.get("seconds")) or 0 for record in records) if records else None,
        "samples_per_second": _number(last.get("samples_per_second")),
        "learning_rate": _number(last.get("learning_rate")),
        "nonfinite_gradients": sum(int(_number(record.get("nonfinite_gradients")) or 0) for record in records),
    }


def _number(value: object) -> int | float | None:
    """A finite number, or None: a log may have been edited by anyone."""
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) >= 1e300 or value != value:
        return None
    return value
