"""Trains the bundled weights: `python -m mpvideo.training --out RUN`.

First the autoencoder, in one go: if that is interrupted, it begins anew. Then the network, in as many calls as it
takes: the same command goes on where the last one stopped, and Ctrl-C keeps what was learned. The folder RUN holds
autoencoder.safetensors, snapshot.pt (to go on from) and, at the end of each call, model.safetensors.
"""

import argparse
import signal
import sys
import time
from pathlib import Path

from mpvideo.errors import ExitCode, MPVideoError
from mpvideo.files import write_error
from mpvideo.training.bundle import latent_batches, new_trainer, save_bundle, trained_autoencoder
from mpvideo.training.loop import Recipe, train


def say(line: str) -> None:
    """Prints a line with the time of day to standard error."""
    print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)


def steps(text: str) -> int:
    """A number of steps from the command line."""
    if (number := int(text)) < 0:
        raise ValueError(text)
    return number


def train_bundle(run: Path, *, autoencoder_steps: int, network_steps: int) -> None:
    """Trains, or goes on training, in the folder `run`."""
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(run, error) from error
    autoencoder = trained_autoencoder(run / "autoencoder.safetensors", steps=autoencoder_steps, say=say)
    recipe = Recipe()
    trainer = new_trainer(recipe)
    # From here on Ctrl-C and SIGTERM end the training after the step in hand.
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: signals.append(number))
    train(
        trainer,
        latent_batches(autoencoder, recipe.batch_size),
        run / "snapshot.pt",
        keep_going=lambda: not signals and trainer.step < network_steps,
        say=say,
    )
    save_bundle(run / "model.safetensors", trainer, autoencoder)
    say(f"{run / 'model.safetensors'}: {trainer.step} steps")


def main() -> None:
    """Reads the command line and trains."""
    parser = argparse.ArgumentParser(
        prog="python -m mpvideo.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="the run's folder")
    parser.add_argument("--autoencoder-steps", type=steps, default=4000, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--steps", type=steps, default=10000, metavar="N", help="of the network, in all calls; default: %(default)s"
    )
    options = parser.parse_args()
    try:
        train_bundle(options.out, autoencoder_steps=options.autoencoder_steps, network_steps=options.steps)
    except MPVideoError as error:
        say(f"error: {error.message}")
        if error.hint:
            say(f"hint: {error.hint}")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        say("interrupted before the autoencoder was trained")
        sys.exit(ExitCode.INTERRUPTED)


if __name__ == "__main__":
    main()
