"""The training loop: batches -> loss -> gradients -> update; validation, checkpoints, resume, early stopping."""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from dragoman_model.checkpoint import (
    atomic_folder,
    average_states,
    load_training_state,
    random_state,
    save_training_state,
    saved_updates,
)
from dragoman_model.distributed import World
from dragoman_model.optimizer import make_optimizers, set_rate
from dragoman_model.progress import Reporter
from dragoman_model.schedule import learning_rate_factor
from dragoman_model.task import Task, TrainingBatch


class TrainingError(Exception):
    """The run leads nowhere."""


@dataclass
class Progress:
    """Where a run stands: all that a resume needs besides weights, optimizers and random numbers."""

    update: int = 0
    epoch: int = 0
    batch: int = 0
    """Batches of this epoch that were used, over all processes."""
    best: float = float("inf")
    """Lowest so far of what decides; a metric, of which more is better, counts with a minus."""
    worse: int = 0
    """Validations since the best."""
    tokens: int = 0


class Trainer:
    """One run of a task. ``folder`` receives checkpoints/, best/, history.jsonl, loss.png and, at the end, model/."""

    def __init__(self, task: Task, folder: Path, world: World) -> None:
        self.task = task
        self.training = task.recipe.training
        self.folder = folder
        self.world = world
        self.model = task.model.to(world.device)
        self.plain_objective = task.objective()
        self.objective = self.plain_objective
        self.optimizers = make_optimizers(self.model, self.training)
        if world.size > 1:
            # Equal weights everywhere, different dropout.
            torch.manual_seed(self.training.seed + 1000 + world.rank)
            self.objective = DistributedDataParallel(self.plain_objective)
        self.progress = Progress()

    # -- the loop ------------------------------------------------------------------------------------------------

    def run(self, *, resume: bool) -> Path:
        """Train to the end (or resume there); returns the resulting model's folder. TrainingError if it diverges."""
        if resume:
            self._resume()
        reporter = Reporter(self.folder, self.training.max_updates, self.progress.update, enabled=self.world.leader)
        reporter.say(f"{self.model.parameter_count:,} parameters, {self.task.examples:,} examples")
        losses: list[float] = []
        stream = self._stream()
        try:
            while self.progress.update < self.training.max_updates and not self._out_of_patience():
                loss, tokens = self._update(stream)
                losses.append(loss)
                self.progress.update += 1
                self.progress.tokens += tokens
                reporter.update(self.progress.update, loss, tokens)
                last = self.progress.update == self.training.max_updates
                if self.progress.update % self.training.validate_every == 0 or last:
                    self._validate(reporter, sum(losses) / len(losses))
                    losses.clear()
                # A run that ends for lack of patience is saved where it stands, whenever the last checkpoint was.
                if self.progress.update % self.training.save_every == 0 or last or self._out_of_patience():
                    self._save()
        finally:
            reporter.close()
        return self._finish()

    def _out_of_patience(self) -> bool:
        return 0 < self.training.patience <= self.progress.worse

    def _update(self, stream: Iterator[TrainingBatch]) -> tuple[float, int]:
        """One update over ``accumulate`` batches on every process; mean loss per token, and the tokens."""
        training, world = self.training, self.world
        set_rate(
            self.optimizers,
            learning_rate_factor(
                self.progress.update,
                warmup=training.warmup,
                decay=training.decay,
                max_updates=training.max_updates,
                cooldown=training.cooldown,
            ),
        )
        self.model.train()
        batches = [next(stream) for _ in range(training.accumulate)]
        totals = world.sum(torch.tensor([0.0, sum(b.tokens for b in batches)], device=world.device))
        tokens = int(totals[1])
        loss_sum = torch.zeros((), device=world.device)
        for number, batch in enumerate(batches):
            with self._synchronised(last=number == len(batches) - 1):
                with self._autocast():
                    loss, _ = self.objective(batch.to(world.device))
                # DistributedDataParallel takes the mean over processes; the loss is a mean over all their tokens.
                (loss * (world.size / tokens)).backward()
            loss_sum += loss.detach()
        nn.utils.clip_grad_norm_(self.model.parameters(), training.clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return float(world.sum(loss_sum)) / tokens, tokens

    def _synchronised(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        if isinstance(self.objective, DistributedDataParallel) and not last:
            return self.objective.no_sync()
        return contextlib.nullcontext()

    def _autocast(self) -> torch.autocast:
        enabled = self.training.precision == "bfloat16"
        return torch.autocast(self.world.device.type, torch.bfloat16, enabled=enabled)

    def _stream(self) -> Iterator[TrainingBatch]:
        """Batches of this process from where the progress stands, epoch after epoch, without end."""
        while True:
            order = self.task.order(self.progress.epoch)
            usable = len(order) - len(order) % self.world.size
            if usable == 0:
                raise ValueError(f"{len(order)} batches are too few for {self.world.size} processes")
            while self.progress.batch < usable:
                index = self.progress.batch + self.world.rank
                self.progress.batch += self.world.size
                yield self.task.batch(order[index])
            self.progress.epoch += 1
            self.progress.batch = 0

    # -- validation ----------------------------------------------------------------------------------------------

    def validation_loss(self) -> float:
        """Mean negative log-likelihood of the validation targets, in nats per token, without label smoothing."""
        total = torch.zeros(2, dtype=torch.float64, device=self.world.device)
        self.model.eval()
        with torch.no_grad(), self._autocast():
            for batch in self.task.validation(self.world.rank, self.world.size):
                _, log_likelihood = self.plain_objective(batch.to(self.world.device))
                total[0] -= log_likelihood
                total[1] += batch.tokens
        total = self.world.sum(total)
        return float(total[0] / total[1])

    def _validate(self, reporter: Reporter, training_loss: float) -> None:
        loss = self.validation_loss()
        if not math.isfinite(loss):
            raise TrainingError(
                f"the validation loss is {loss} at update {self.progress.update}: lower the rates, or clip_norm, "
                "and begin anew or --resume from the newest checkpoint"
            )
        with torch.no_grad(), self._autocast():
            metrics = self.task.metrics()
        watched = self.training.best_by
        value = loss if watched == "loss" else -metrics[watched]
        if value < self.progress.best:
            self.progress.best, self.progress.worse = value, 0
            if self.training.takes_best:
                self._save_best()
        else:
            self.progress.worse += 1
        figures = "".join(f", {name} {figure:.4f}" for name, figure in metrics.items())
        reporter.say(
            f"update {self.progress.update}: validation loss {loss:.4f}{figures} (best {abs(self.progress.best):.4f})"
        )
        reporter.record(
            update=self.progress.update,
            epoch=self.progress.epoch,
            tokens=self.progress.tokens,
            loss=round(training_loss, 5),
            validation_loss=round(loss, 5),
            **{name: round(figure, 5) for name, figure in metrics.items()},
        )

    # -- checkpoints ---------------------------------------------------------------------------------------------

    def _save(self) -> None:
        random_states = self.world.gather(random_state())
        if self.world.leader:
            path = self.folder / "checkpoints" / f"{self.progress.update:07d}"

            def write(folder: Path) -> None:
                self.task.save(folder / "model", self.model.state_dict(), self.progress.update)
                save_training_state(folder, self.optimizers, asdict(self.progress), random_states)

            atomic_folder(path, write)
            for old in checkpoints(self.folder)[: -self.training.keep]:
                shutil.rmtree(old)
        self.world.barrier()

    def _save_best(self) -> None:
        if self.world.leader:
            self.task.save(self.folder / "best", self.model.state_dict(), self.progress.update)
        self.world.barrier()

    def _resume(self) -> None:
        newest = newest_checkpoint(self.folder)
        if newest is None:
            return
        self.model.load_state_dict(load_file(newest / "model" / "model.safetensors"))
        self.progress = Progress(**load_training_state(newest, self.optimizers, self.world.rank))

    def _finish(self) -> Path:
        """The best checkpoint, or the mean of the newest, into ``model/``, in the recipe's precision."""
        path = self.folder / "model"
        if self.world.leader:
            if self.training.takes_best:
                weights = load_file(self.folder / "best" / "model.safetensors")
                updates = saved_updates(self.folder / "best")
            else:
                newest = checkpoints(self.folder)[-self.training.average :]
                weights = average_states([load_file(p / "model" / "model.safetensors") for p in newest])
                updates = self.progress.update
            if self.training.result == "float16":
                weights = {name: tensor.half() for name, tensor in weights.items()}
            self.task.save(path, weights, updates)
        self.world.barrier()
        return path


def checkpoints(folder: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted((folder / "checkpoints").glob("[0-9]*"))


def newest_checkpoint(folder: Path) -> Path | None:
    """Where a resumed run goes on, or None if nothing was saved."""
    found = checkpoints(folder)
    return found[-1] if found else None
