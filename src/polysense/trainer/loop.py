"""The one training loop of the library, on Accelerate.

Per optimiser step: agree (who has samples, does anyone want to stop), forward and backward of every modality in one
order on all ranks, one flat all-reduce, clip, update. Model parameters are plain tensors and nothing is wrapped, but
for a run that its launcher shards (`polysense.trainer.sharding`).
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NoReturn

import torch
from accelerate import Accelerator

from polysense.data.prefetch import Prefetcher
from polysense.data.rng import step_seed
from polysense.errors import ConfigError, PolysenseError, QuotaExceededError, UnknownModalityError
from polysense.modality import JsonValue
from polysense.storage import FileSystem
from polysense.trainer.activations import recomputed
from polysense.trainer.checkpoint import (
    Checkpoint,
    CheckpointStore,
    frozen_fingerprint,
    load_trainable_state,
    read_checkpoint,
    trainable_state,
)
from polysense.trainer.config import LoopConfig
from polysense.trainer.distributed import exchange, gather_objects, on_main, rank, world_size
from polysense.trainer.hooks import Hooks, LoopState, TrainingResult
from polysense.trainer.lock import FolderLock
from polysense.trainer.logbook import Logbook
from polysense.trainer.objective import Feed, Objective
from polysense.trainer.optimizer import (
    build_optimizer,
    load_optimizer_tensors,
    optimizer_tensors,
    trainable_parameters,
)
from polysense.trainer.resume import check_origin
from polysense.trainer.sharding import sharded
from polysense.trainer.signals import StopSignals
from polysense.trainer.step import StepReport, StepRunner
from polysense.trainer.threads import sharing_cores

logger = logging.getLogger(__name__)


def train(
    objective: Objective,
    feed: Feed,
    config: LoopConfig,
    folder: str | Path,
    *,
    hooks: Hooks | None = None,
    accelerator: Any = None,
    files: FileSystem | None = None,
) -> TrainingResult:
    """Train until `config.steps`, from the newest intact checkpoint in `folder` if there is one.

    A run that is killed at any instant and started again ends with the same bits as one that is not. SIGTERM,
    SIGINT or SIGHUP (to any rank) saves after the step at work and raises `SystemExit` with code 143, 130 or 129; a
    second one ends the process at once. After the last step all is saved: in `on_stage_end`, signals do what they
    do elsewhere.

    Args:
        objective: see `Objective`; its module is moved to the device and set to training mode.
        feed: see `Feed`, for example a `polysense.data.Mixture`.
        config: see `LoopConfig`.
        folder: the run folder, shared by all processes; gets `log.jsonl` and `checkpoints/`.
        hooks: see `Hooks`.
        accelerator: an `accelerate.Accelerator` to use in place of a new one.
        files: how to write checkpoints.

    Raises:
        FolderInUseError: another process trains in the folder.
        CheckpointError: a checkpoint is damaged, belongs to another model, or cannot be written.
        QuotaExceededError: too many unusable samples, or non-finite steps in a row.
        UnknownModalityError: the feed has a modality that the objective does not know.
        ConfigError: `config` gives epochs, and `LoopConfig.in_steps` has not turned them into steps; or the launcher
            wants an objective sharded that cannot be, or its module has no activation checkpointing.
    """
    # one process may run trainings of different precision, which Accelerate's state does not allow: see StepRunner
    accelerator = accelerator or Accelerator(mixed_precision="no")
    if unknown := [modality for modality in feed.slots if modality not in objective.modalities]:
        raise UnknownModalityError(unknown[0], objective.modalities, where="the feed")
    if config.epochs:
        raise ConfigError("the loop counts steps, not epochs", where="loop.epochs", fix="Convert with in_steps().")
    with ExitStack() as stack:
        on_main(lambda: bool(stack.enter_context(FolderLock(folder))))
        stack.enter_context(recomputed(objective.module, config.activation_checkpointing))
        stack.enter_context(sharded(objective, accelerator.device))
        return _Run(objective, feed, config, Path(folder), hooks or Hooks(), accelerator, files).run()


class _Run:
    def __init__(
        self,
        objective: Objective,
        feed: Feed,
        config: LoopConfig,
        folder: Path,
        hooks: Hooks,
        accelerator: Any,
        files: FileSystem | None,
    ) -> None:
        self.objective, self.feed, self.config, self.folder = objective, feed, config, folder
        self.hooks, self.accelerator = hooks, accelerator
        self.module = objective.module.to(accelerator.device)
        self.parameters = trainable_parameters(self.module)
        self.optimizer = build_optimizer(self.parameters, config)
        self.store = CheckpointStore(folder, keep=config.keep_checkpoints, files=files)
        self.runner = StepRunner(objective, feed.slots, self.parameters, self.optimizer, accelerator, config)
        self.fingerprint = frozen_fingerprint(self.module)
        self.step = self.nonfinite_in_row = self.skipped_steps = self._logged_samples = 0
        self.saved = -1  # the step of the last checkpoint
        self.first = 0  # step that this start begins at
        self.earlier, self.started = 0.0, time.monotonic()  # seconds of the starts before it, and when it began
        self.checkpoint = folder
        self.metrics: Mapping[str, JsonValue] = {}

    def run(self) -> TrainingResult:
        first = self.first = self._resume()
        with self._prefetcher() as batches, self._logbook() as log:
            log.write("start", first, config=self.config.to_dict(), world=world_size(), data=dict(self.feed.signature))
            with StopSignals() as signals, sharing_cores(self.config.loader_workers, self.accelerator.device):
                self._steps(batches, signals, log)
            if first == self.config.steps:
                self._evaluate(log)
            if self.hooks.on_stage_end is not None:
                self.hooks.on_stage_end(self._state())
            log.write("end", self.step, skipped_steps=self.skipped_steps)
        return TrainingResult(
            step=self.step,
            seconds=self._seconds(),
            resumed_from=first,
            skipped_steps=self.skipped_steps,
            skipped_samples=dict(self.feed.skipped),
            checkpoint=self.checkpoint,
            metrics=self.metrics,
        )

    def _steps(self, batches: Prefetcher[Sequence[Any | None]], signals: StopSignals, log: Logbook) -> None:
        self.module.train()
        while self.step < self.config.steps:
            if not self.module.training:  # a hook has evaluated it; asking every module each time would cost more
                self.module.train()
            torch.manual_seed(step_seed(self.config.seed, self.step, rank()))
            ids, stop = self._accumulate(batches, signals)
            if stop:
                self._stop(stop, log)
            self._after_step(self.runner.finish(self.step), ids, log)
        if stop := max(row[0] for row in exchange([signals.received])):
            self._stop(stop, log)

    def _stop(self, number: int, log: Logbook) -> NoReturn:
        self._save()
        log.write("stop", self.step, signal=number)
        raise SystemExit(128 + number)

    def _prefetcher(self) -> Prefetcher[Sequence[Any | None]]:
        place, world = rank(), world_size()
        return Prefetcher(
            lambda index: self.feed.build(index, place, world),
            stop=self.config.steps * self.config.accumulation,
            workers=self.config.loader_workers,
            depth=self.config.prefetch,
        )

    def _logbook(self) -> Logbook:
        return Logbook(self.folder / "log.jsonl", first=self.step, steps=self.config.steps, active=rank() == 0)

    def _state(self) -> LoopState:
        return LoopState(
            step=self.step,
            seconds=self._seconds(),
            config=self.config,
            folder=self.folder,
            objective=self.objective,
            accelerator=self.accelerator,
            metrics=self.metrics,
        )

    def _resume(self) -> int:
        """Load the newest intact checkpoint, chosen by the main process, and return its step."""
        path = on_main(lambda: getattr(self.store.newest(strict=self.config.strict_resume), "path", None))
        if path is not None:
            checkpoint = read_checkpoint(path)
            check_origin(checkpoint, self._origin())
            load_trainable_state(self.module, checkpoint.model)
            load_optimizer_tensors(self.optimizer, self.parameters, checkpoint.optimizer)
            self.step = self.saved = checkpoint.step
            self.skipped_steps = int(checkpoint.state["skipped_steps"])
            self.nonfinite_in_row = int(checkpoint.state["nonfinite_in_row"])
            self.earlier = float(checkpoint.state.get("seconds", 0.0))
            self.checkpoint = path
            logger.info("resumed from %s", path)
        return self.step

    def _seconds(self) -> float:
        """Of all starts; one that finds everything done adds none."""
        return self.earlier + (0.0 if self.first == self.config.steps else time.monotonic() - self.started)

    def _origin(self) -> dict[str, JsonValue]:
        return {
            "frozen_sha256": self.fingerprint,
            "world": world_size(),
            "config": self.config.to_dict(),
            "data": dict(self.feed.signature),
        }

    def _save(self) -> None:
        if self.saved == self.step:
            return
        counts = {"skipped_steps": self.skipped_steps, "nonfinite_in_row": self.nonfinite_in_row}
        state = {**counts, "seconds": self._seconds(), **self._origin()}
        model, optimizer = trainable_state(self.module), optimizer_tensors(self.optimizer, self.parameters)
        self.checkpoint = on_main(lambda: self.store.save(Checkpoint(self.step, model, optimizer, state)))
        self.saved = self.step

    def _accumulate(self, batches: Prefetcher[Sequence[Any | None]], signals: StopSignals) -> tuple[list[str], int]:
        """Run the micro-steps of one optimiser step; (ids of this rank's samples, signal to stop for or 0)."""
        ids: list[str] = []
        for micro in range(self.config.accumulation):
            error, work = self._take(batches, self.step * self.config.accumulation + micro)
            counts = [0 if batch is None else len(batch) for batch in work]
            stop = signals.received if micro == 0 else 0
            everyone = exchange([*counts, stop, int(error is not None)])
            if error is not None:
                raise error
            if any(row[-1] for row in everyone):
                raise QuotaExceededError("another process had to stop; see its message", fix="Repair what it names.")
            if agreed := max(row[-2] for row in everyone):
                return [], agreed
            self.runner.accumulate(work, [row[:-2] for row in everyone])
            ids += [name for batch in work if batch is not None for name in batch.ids]
        return ids, 0

    def _take(
        self, batches: Prefetcher[Sequence[Any | None]], index: int
    ) -> tuple[PolysenseError | None, Sequence[Any | None]]:
        """The batches of a micro-step, or the error that prevents them, so that the other ranks can be told of it."""
        try:
            work = batches[index]
            self.feed.account([batch for batch in work if batch is not None])
        except PolysenseError as error:
            return error, [None] * len(self.feed.slots)
        return None, work

    def _after_step(self, report: StepReport, ids: list[str], log: Logbook) -> None:
        step, self.step = self.step, self.step + 1
        self._logged_samples += report.samples
        if report.applied:
            self.nonfinite_in_row = 0
        else:
            self._skip(step, report, ids, log)
        if self.step % self.config.log_every == 0 or self.step == self.config.steps:
            self._log(report, log)
        log.advance(report.loss)
        if self.hooks.on_step_end is not None:
            self.hooks.on_step_end(self._state())
        last = self.step == self.config.steps
        if last or (self.config.eval_every and self.step % self.config.eval_every == 0):
            self._evaluate(log)
        if last or self.step % self.config.save_every == 0:
            self._save()

    def _skip(self, step: int, report: StepReport, ids: list[str], log: Logbook) -> None:
        self.skipped_steps += 1
        self.nonfinite_in_row += 1
        everyone = [name for names in gather_objects(ids) for name in names]
        logger.warning(
            "step %d skipped: loss %s, gradient norm %s; samples: %s",
            step,
            report.loss,
            report.grad_norm,
            ", ".join(ids),
        )
        log.write("skipped", step, loss=report.loss, grad_norm=report.grad_norm, samples=everyone)
        if self.nonfinite_in_row >= self.config.max_nonfinite_steps:
            raise QuotaExceededError(
                f"{self.nonfinite_in_row} steps in a row had a non-finite loss or gradient",
                where=self.folder / "log.jsonl",
                fix="Lower the learning rate, or look at the samples that the log names.",
            )

    def _log(self, report: StepReport, log: Logbook) -> None:
        sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        for terms in gather_objects(self.runner.take_terms()):
            for name, (total, count) in terms.items():
                sums[name][0] += total
                sums[name][1] += count
        log.write(
            "train",
            self.step,
            losses={name: total / count for name, (total, count) in sorted(sums.items())},
            loss=report.loss,
            lr=self.config.learning_rate_at(self.step - 1),
            grad_norm=report.grad_norm,
            skipped_steps=self.skipped_steps,
            skipped_samples=sum(self.feed.skipped.values()),
            samples_per_second=round(self._logged_samples / max(1e-9, log.seconds()), 1),
        )
        self._logged_samples = 0

    def _evaluate(self, log: Logbook) -> None:
        if self.hooks.on_evaluate is None:
            return
        self.module.eval()
        self.metrics = self.hooks.on_evaluate(self._state())
        log.write("evaluate", self.step, metrics=dict(self.metrics))
