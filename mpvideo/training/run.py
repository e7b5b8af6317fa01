"""A training run: a folder that is added to until the network is trained, in as many calls as it takes.

RUN/run.json                 what the run was begun with
RUN/snapshot.pt              everything needed to go on
RUN/model.safetensors        the checkpoint as of the last snapshot: the wider average of the weights
RUN/ema/                     snapshots of both averages, for `mpvideo ema`
RUN/log.jsonl, RUN/loss.png  the loss
RUN/sheets/                  videos of fixed seeds, now and then; before, what the autoencoder makes of frames
RUN/autoencoder.safetensors  only for latents, as RUN/autoencoder.pt while it is trained
RUN/latents-*.npy            only for latents of a folder: all of its frames, by this autoencoder
RUN/.lock                    held by the call that is at work
"""

import copy
import json
import math
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

import mpvideo
from mpvideo.checkpoint import read_header
from mpvideo.checkpoint.load import hash_tensors
from mpvideo.checkpoint.save import save_checkpoint
from mpvideo.config import CheckpointConfig
from mpvideo.errors import CheckpointError, MPVideoError
from mpvideo.files import atomic_path
from mpvideo.nn import KarrasUnet3D
from mpvideo.processes import ALONE, Processes
from mpvideo.text import printable
from mpvideo.training.autoencoder import (
    AutoencoderTrainer,
    autoencoder_sha256,
    load_autoencoder,
    psnr,
    save_autoencoder,
)
from mpvideo.training.factored import FactoredClassEmbedding, finished_weights
from mpvideo.training.folder import FolderData
from mpvideo.training.initial import own_autoencoder
from mpvideo.training.latents import cache_latents, cached_batches, encoded_batches
from mpvideo.training.log import append_record, read_log, truncate_log
from mpvideo.training.loss_curve import loss_curve
from mpvideo.training.plan import Plan, Rhythm
from mpvideo.training.posthoc import forget_after, save_ema_snapshot
from mpvideo.training.preview import preview
from mpvideo.training.progress import LossMeter, Watcher
from mpvideo.training.record import alone_in, check_files, check_record
from mpvideo.training.snapshot import going_back_to, load_snapshot, save_snapshot
from mpvideo.training.trainer import Batches, Trainer
from mpvideo.video.autoencoder import Autoencoder
from mpvideo.video.codec import Codec, LatentCodec, PixelCodec
from mpvideo.video.contact_sheet import contact_sheet

EMA_SNAPSHOTS = 32
"""How many snapshots of each average a whole run makes at most, evenly spaced."""

FINISHED_STD = 0.10
"""Relative width of the average that becomes model.safetensors."""

DIVERGED = 10.0
"""A loss beyond that of a network that has learned nothing: 1, and at most 4 where all is black or white."""

_IMAGE_NUMBERS = 2**40
"""The numbers of the autoencoder's samples are by so much higher than the network's."""


class Run:
    """One call of a training: goes on where the last one stopped, and leaves the folder so that the next one can.

    With several processes only the first one writes and speaks.

    Args:
        plan: what to train; the same in every call.
        folder: RUN.
        watcher: is told how it goes.
        rhythm: how often to write what.
        processes: those that train together.
        device: where to train.

    Attributes:
        step: how many of the network's steps were taken, in all calls.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        *,
        watcher: Watcher,
        rhythm: Rhythm,
        processes: Processes = ALONE,
        device: torch.device | str = "cpu",
    ) -> None:
        self.plan, self.folder, self.watcher = plan, folder, watcher
        self.rhythm, self.processes = rhythm, processes
        self.device = torch.device(device)
        self.began = time.monotonic()
        self.codec: Codec = PixelCodec()
        self.autoencoder: Autoencoder | None = None
        self.step = 0
        self._begun_with: dict[str, Any] = {}
        self._warned = False

    def train(self) -> bool:
        """Trains until done, told to stop, or out of time, and saves; returns whether it is done.

        Raises:
            UsageError: the run was begun with something else, or the folder has files of no known run.
            CheckpointError: a file of the run is damaged.
            OutputError: the folder cannot be written to; the last snapshot is intact.
            MPVideoError: the processes do not see the same videos.
        """
        if not self.processes.alike(self._what_to_train()):
            raise MPVideoError(
                "the processes do not see the same videos or settings: some file only some could read, options differ, "
                "or caches were filled in another order",
                hint="Give all of them the same options, and a --cache that they share.",
            )
        if self.processes.first:
            check_files(self.folder)
        with alone_in(self.folder, "sheets", "ema") if self.processes.first else nullcontext():
            return self._train()

    def _what_to_train(self) -> str:
        """All that must be the same in processes that train together."""
        plan, order = self.plan, None
        if isinstance(plan.data, FolderData) and plan.video.autoencoder is not None:
            order = plan.data.arrangement  # of the cache's frames, and so of the latents that all read
        return json.dumps([plan.begun_with(), plan.steps, order])

    def _train(self) -> bool:
        if self.processes.first:
            self._begun_with = check_record(self.folder, self.plan.begun_with())
        if self.plan.video.autoencoder is not None and not self._prepare_autoencoder():
            return False
        net = self._new_network()
        if self.plan.initial is not None:
            self.plan.initial.load_into(net)
        trainer = Trainer(
            net,
            self.plan.recipe,
            sigma_data=self.plan.edm.sigma_data,
            first_sample=self.plan.first_sample,
            processes=self.processes,
        )
        if (path := self.folder / "snapshot.pt").exists():
            state = load_snapshot(path)
            with going_back_to(path):
                trainer.load_state(state)
            self._check_autoencoder(state)
            if self.processes.first:
                self.watcher.say(f"going on from step {trainer.step} of {self.plan.steps}")
        self.step = trainer.step
        if self.processes.first:  # what a killed call did after its last snapshot is done again
            forget_after(self.folder, trainer.step)
            truncate_log(self.folder / "log.jsonl", trainer.step)
        if (batches := self._batches()) is None:
            return False
        self._train_network(trainer, batches)
        return trainer.step >= self.plan.steps

    def _prepare_autoencoder(self) -> bool:
        """Trains the autoencoder, or loads the trained one; returns whether it is done.

        Once the network has begun, there is no new one: its latents would be others than the network's.
        """
        done = True
        path = self.folder / "autoencoder.safetensors"
        if self.processes.first and not path.exists():
            given = None if self.plan.initial is None else self.plan.initial.autoencoder
            if given is not None and not self.plan.recipe.autoencoder_steps:
                save_autoencoder(given, path)
            elif (self.folder / "snapshot.pt").exists():
                save_autoencoder(self._autoencoder_of_checkpoint(path), path)
            else:
                done = self._train_autoencoder(path, given)
        self.processes.wait()
        if not self.processes.agree(done):
            return False
        assert self.plan.video.autoencoder is not None
        self.autoencoder = load_autoencoder(path, self.plan.video.autoencoder).to(self.device)
        self.codec = LatentCodec(self.autoencoder, self.plan.edm.sigma_data)
        return True

    def _check_autoencoder(self, state: dict[str, Any]) -> None:
        """Makes sure that the autoencoder is the one that a snapshot was made with; the first ones did not say.

        Raises:
            CheckpointError: it is another one.
        """
        wanted = state.get("autoencoder")
        if self.autoencoder is not None and wanted not in (None, autoencoder_sha256(self.autoencoder)):
            raise CheckpointError(
                f"{printable(self.folder / 'autoencoder.safetensors')} is another one than the network was trained "
                "with, and the network cannot go on with it",
                hint="Put the run's own in its place; or move it away: it is taken from the run's model.safetensors "
                "then.",
            )

    def _autoencoder_of_checkpoint(self, path: Path) -> Autoencoder:
        """The autoencoder of the last snapshot's checkpoint, in float16, in the place of one that is gone."""
        assert self.plan.video.autoencoder is not None
        checkpoint = self.folder / "model.safetensors"
        if not checkpoint.exists():
            raise CheckpointError(
                f"{printable(path)} is gone, and so is {checkpoint.name}, which has the autoencoder, too; the network "
                "cannot go on with another one",
                hint="Put a copy of either in its place, or train in another folder.",
            )
        self.watcher.say(f"{path.name} is gone: taken from {checkpoint.name}")
        return own_autoencoder(checkpoint, self.plan.video.autoencoder)

    def _train_autoencoder(self, path: Path, initial: Autoencoder | None) -> bool:
        plan, recipe = self.plan, self.plan.recipe
        assert plan.video.autoencoder is not None

        def images(numbers: range) -> Tensor:
            first = plan.first_sample + _IMAGE_NUMBERS
            shifted = range(first + numbers.start, first + numbers.stop)
            return plan.data.batch(shifted, 1, device=self.device)[0][:, 0]

        trainer = AutoencoderTrainer(
            plan.video.autoencoder,
            images,
            initial=initial,
            steps=recipe.autoencoder_steps,
            dtype=recipe.dtype,
            seed=recipe.seed,
            device=self.device,
        )
        snapshot = self.folder / "autoencoder.pt"
        if snapshot.exists():
            state = load_snapshot(snapshot)
            with going_back_to(snapshot):
                trainer.load_state(state)
        saved = pictured = time.monotonic()
        while trainer.step < trainer.steps and not self._told_to_stop():
            error = trainer.train_step()
            words = f"PSNR {psnr(error):.1f} dB of noisy latents"
            self.watcher.advance("autoencoder", trainer.step, trainer.steps, words)
            now = time.monotonic()
            if now - saved > self.rhythm.snapshot:
                save_snapshot(trainer.state(), snapshot)
                saved = time.monotonic()
            if now - pictured > self.rhythm.sheet:
                self._picture_autoencoder(trainer)
                pictured = time.monotonic()
        save_snapshot(trainer.state(), snapshot)
        if trainer.step:
            self._picture_autoencoder(trainer)
        if trainer.step < trainer.steps:
            return False
        save_autoencoder(trainer.finished(), path)
        snapshot.unlink(missing_ok=True)
        return True

    def _new_network(self) -> KarrasUnet3D:
        plan = self.plan
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.recipe.seed)
            net = KarrasUnet3D(**vars(plan.model))
            if plan.data.factors is not None:
                net.to_class_emb = FactoredClassEmbedding(plan.data.factors, 4 * plan.model.dim)
        return net.to(self.device)

    def _batches(self) -> Batches | None:
        """Where the network's samples come from: what can be encoded once is. None if that was cut short."""
        data, codec, device = self.plan.data, self.codec, self.device
        if isinstance(codec, LatentCodec):
            # Encoded in the dtype of training; rounding is a hundredth of the noise that the latents were made for.
            autoencoder = copy.deepcopy(codec.autoencoder).to(getattr(torch, self.plan.recipe.dtype))
            codec = LatentCodec(autoencoder, codec.sigma_data)
        if not (isinstance(data, FolderData) and isinstance(codec, LatentCodec)):
            return encoded_batches(data, codec, device)
        autoencoder_hash = hash_tensors(read_header(self.folder / "autoencoder.safetensors"))
        path = self.folder / f"latents-{data.arrangement}-{autoencoder_hash[:16]}.npy"
        done = True
        if self.processes.first:
            done = cache_latents(data, codec, path, device, say=self.watcher.say, stopping=self._told_to_stop)
        self.processes.wait()
        if not self.processes.agree(done):
            return None
        model = self.plan.model
        return cached_batches(data, path, device, (model.channels, model.image_size, model.image_size))

    def _train_network(self, trainer: Trainer, batches: Batches) -> None:
        first, rhythm, total = self.processes.first, self.rhythm, self.plan.steps
        meter = LossMeter()
        every = max(1, math.ceil(total / EMA_SNAPSHOTS))
        saved = pictured = time.monotonic()
        begun_at = trainer.step
        while trainer.step < total and not self._stopping():
            report = trainer.train_step(batches)
            if not first:
                continue
            meter.add(report)
            if trainer.step % every == 0 or trainer.step == total:
                self._save_averages(trainer)
            self.watcher.advance("network", trainer.step, total, meter.words)
            now = time.monotonic()
            if meter.seconds > rhythm.log:
                self._log(meter, trainer)
            if now - saved > rhythm.snapshot:
                self._save(trainer)
                saved = time.monotonic()
            if now - pictured > rhythm.sheet:
                self._picture(trainer)
                pictured = time.monotonic()
        self.step = trainer.step
        # Without a step there is nothing to show; what was taken away, or a call came to no more, is written again.
        last = ("model.safetensors", "loss.png", _sheet_name(trainer.step))
        made = all((self.folder / name).exists() for name in last)
        if first and trainer.step and (trainer.step > begun_at or not made):
            self._log(meter, trainer)
            self._save(trainer)
            self._picture(trainer)
        self.processes.wait()

    def _stopping(self) -> bool:
        """Whether to save and end; the same in all processes."""
        return self.processes.agree(self._told_to_stop())

    def _told_to_stop(self) -> bool:
        """Whether this process was told so, or is out of time."""
        late = self.rhythm.limit is not None and time.monotonic() - self.began > self.rhythm.limit
        return late or self.watcher.stopping()

    def _log(self, meter: LossMeter, trainer: Trainer) -> None:
        record = meter.record(step=trainer.step, samples=trainer.samples, rate=trainer.optimizer.rate)
        if record is None:
            return
        append_record(self.folder / "log.jsonl", record)
        if not (record.loss <= DIVERGED or self._warned):  # NaN is no loss either
            self._warned = True
            self.watcher.say(
                f"warning: the training has diverged: the loss is {record.loss:.3g}, where a network that has learned "
                "nothing has about 1; begin another run with a lower --rate or more --warmup"
            )

    def _save_averages(self, trainer: Trainer) -> None:
        for std, average in trainer.averages.items():
            save_ema_snapshot(
                self.folder, average.average, ema_std=std, step=trainer.step, factors=self.plan.data.factors
            )

    def _save(self, trainer: Trainer) -> None:
        """Writes what the next call goes on from, and the checkpoint."""
        weights = finished_weights(trainer.averages[FINISHED_STD].average)
        if self.autoencoder is not None:
            weights |= {f"codec.{name}": tensor.cpu() for name, tensor in self.autoencoder.state_dict().items()}
        # Weights have root mean square 1 and need float16's precision more than bfloat16's range.
        halves = {name: tensor.to(torch.float16) for name, tensor in weights.items()}
        state, snapshot = trainer.state(), self.folder / "snapshot.pt"
        if self.autoencoder is not None:
            state["autoencoder"] = autoencoder_sha256(self.autoencoder)
        if not snapshot.exists():  # first: a checkpoint without one has lost it, see check_files
            save_snapshot(state, snapshot)
        save_checkpoint(self.folder / "model.safetensors", halves, self._config(trainer), overwrite=True)
        # Last, as nothing is written anew for steps that a snapshot has.
        save_snapshot(state, snapshot)

    def _config(self, trainer: Trainer) -> CheckpointConfig:
        plan = self.plan
        training = {
            **self._begun_with,
            "steps": trainer.step,
            "samples": trainer.samples,
            "first_sample": trainer.first_sample,
            "ema_std": FINISHED_STD,
            "version": mpvideo.__version__,
        }
        return CheckpointConfig(
            title=plan.title,
            license=plan.license,
            model=plan.model,
            video=plan.video,
            edm=plan.edm,
            sampling=plan.sampling,
            classes=plan.data.classes,
            training={name: training[name] for name in training if name not in ("model", "video")},
        )

    def _picture(self, trainer: Trainer) -> None:
        """Draws the loss curve and a contact sheet of what the average makes now."""
        net = trainer.averages[FINISHED_STD].average
        videos, captions = preview(net, self.codec, self.plan.edm, self.plan.sampling, self.plan.data.classes)
        self._draw("loss.png", loss_curve(read_log(self.folder / "log.jsonl")))
        self._draw(_sheet_name(trainer.step), contact_sheet(videos.numpy(), captions))

    def _picture_autoencoder(self, trainer: AutoencoderTrainer) -> None:
        """Draws images, and below each what the autoencoder makes of it."""
        images = torch.stack(trainer.preview())
        sheet = contact_sheet(images.numpy(), ["frames of the data", "what the autoencoder makes of them"])
        self._draw(f"sheets/autoencoder-{trainer.step:08d}.png", sheet)

    def _draw(self, name: str, picture: Image.Image) -> None:
        with atomic_path(self.folder / name, overwrite=True) as aside:
            picture.save(aside, format="PNG")


def _sheet_name(step: int) -> str:
    return f"sheets/step-{step:08d}.png"
