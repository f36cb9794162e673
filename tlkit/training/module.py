"""One step of training and one of validation, for Lightning's loop."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import fsum, nan
from typing import TYPE_CHECKING, Any, cast, final

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel

from tlkit import ranks
from tlkit.codes.engines import is_out_of_memory
from tlkit.errors import TlkitError
from tlkit.training.chance import number, seeded
from tlkit.training.freezing import Policy, first_trained
from tlkit.training.memory import Portion, parts, summed
from tlkit.training.rates import NEW, Rates, parameter_groups
from tlkit.training.schedules import scheduled
from tlkit.training.sharding import gathered, shard, whole

if TYPE_CHECKING:
    from tlkit.data import Preprocess
    from tlkit.progress import Advance
    from tlkit.training.loading import Batch
    from tlkit.training.network import Network
    from tlkit.training.settings import Settings

log = logging.getLogger(__name__)

_RECENT = 50  # steps that the loss beside the bar is the mean of
_NEWS = 0.5  # seconds until it is worked out again: on a GPU that waits for the step to end


@dataclass(frozen=True)
class Plan:
    """What a training follows.

    Attributes:
        policy: What is frozen, and when.
        rates: Of the optimizer.
        settings: The user's.
        preprocess: The backbone's; it normalises batches.
        class_weights: (k,) float32.
        seed: Of all chance.
        advance: Called with the number of images after each step, and now and then with how training goes.
    """

    policy: Policy
    rates: Rates
    settings: Settings
    preprocess: Preprocess
    class_weights: Tensor
    seed: int
    advance: Advance = field(default=lambda images, note=None: None)


@dataclass(frozen=True)
class Outcome:
    """What a network did on the validation images.

    Attributes:
        epoch: Number of epochs that it was trained; 0 for its start.
        logits: (n, k) float32.
        labels: (n,) int64.
    """

    epoch: int
    logits: Tensor
    labels: Tensor

    @property
    def accuracy(self) -> float:
        """Share of images that were right."""
        return float((self.logits.argmax(1) == self.labels).float().mean())

    @property
    def loss(self) -> float:
        """Mean cross-entropy."""
        return float(functional.cross_entropy(self.logits, self.labels))

    @property
    def rank(self) -> tuple[float, float]:
        """What is better is greater: more right answers, of equally many the lower loss."""
        return self.accuracy, -self.loss


@final
class FineTuning(pl.LightningModule):
    """A network in training.

    Attributes:
        best: The best validation so far, and the network's state dict then, on the CPU; None before the first.
        history: A row an epoch: epoch, train_loss, val_loss, val_accuracy, lr (of the head, at its end).
        portion: How many images of a batch, of this process, are learned from at once.
        sharded: Whether the network will be in shards while it is trained.
    """

    def __init__(self, network: Network, plan: Plan) -> None:
        super().__init__()
        self.network, self.plan = network, plan
        self.sharded = False
        self.average = _average(network, plan.settings.ema) if plan.settings.ema else None
        self.best: tuple[Outcome, dict[str, Tensor]] | None = None
        self.history: list[dict[str, float]] = []
        self.portion, self._judging = Portion("training steps"), Portion("validation batches")
        self._settled: int | None = None  # epoch in which a step has had memory enough
        self._mix = _mixing(plan.settings, len(plan.class_weights))
        self._seen: list[Batch] = []
        self._losses: list[Tensor] = []
        self._averaged = 0  # steps
        self._told = 0.0

    @property
    def judged(self) -> Network:
        """The network that is validated and kept: the average, if there is one."""
        return self.network if self.average is None else cast("Network", self.average.module)

    def state(self) -> dict[str, Any]:
        """Return what training has changed, as plain containers and tensors; every rank has to call it."""
        best = self.best and {**vars(self.best[0]), "weights": self.best[1]}
        return {
            "network": gathered(self.network.state_dict()),
            "average": None if self.average is None else self.average.state_dict(),
            "best": best,
            "history": self.history,
            "losses": self._everyones_losses(),
            "portion": self.portion.size,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a state."""
        self.network.load_state_dict(state["network"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if state["best"] is not None:
            kept = dict(state["best"])
            weights = kept.pop("weights")
            self.best = Outcome(**kept), weights
        self.history = list(state["history"])
        self._losses = [torch.tensor(loss) for loss in state["losses"]] if ranks.world()[0] == 0 else []
        self._averaged = state["steps"]
        self.portion.size = state["portion"]

    def configure_model(self) -> None:
        """Leave this rank its part of the network, if it is to be in shards."""
        if self.sharded:
            mesh: Any = self.device_mesh
            shard(self.network, mesh["data_parallel"])

    def configure_optimizers(self) -> Any:  # noqa: ANN401
        """Make the optimizer with all groups, frozen or not, and its schedule."""
        rates, groups = self.plan.rates, parameter_groups(self.network, self.plan.rates)
        optimizer: torch.optim.Optimizer
        if rates.optimizer == "adamw":
            optimizer = torch.optim.AdamW(groups)
        else:
            optimizer = torch.optim.SGD(groups, momentum=rates.momentum)
        return scheduled(optimizer, self.plan.settings, int(self.trainer.estimated_stepping_batches))

    def on_train_start(self) -> None:
        """Move the bar to where training goes on from."""
        done = self.trainer.fit_loop.epoch_progress.current.completed * self.trainer.num_training_batches
        done += self.trainer.fit_loop.epoch_loop.batch_progress.current.completed
        if done:
            self.plan.advance(int(done) * self._images_a_batch())

    def _images_a_batch(self) -> int:
        loader: Any = self.trainer.train_dataloader
        return int(loader.batch_size) * self.trainer.world_size

    def on_train_epoch_start(self) -> None:
        """Freeze what the policy says for this epoch."""
        first = first_trained(self.plan.policy, len(self.network.stages), self.current_epoch)
        if first != self.network.first:
            self.network.freeze(first)
        self.network.train()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of a batch; where memory is short, its gradients are worked out part by part."""
        images, targets = self._input(batch), batch[1]
        if self._mix is not None:
            even = len(images) // 2 * 2
            with seeded(self.plan.seed, "mix", self.current_epoch, batch_idx):
                images, targets = self._mix(images[:even], targets[:even])
        # The first step of an epoch tells whether all fit, for all are alike; the others are faster as they are.
        settled = self.portion.size is None and self._settled == self.current_epoch
        if self.sharded or settled:
            self._draw(batch_idx)
            with self._all_at_once():
                loss = self._loss(images, targets, slice(None))
        else:
            loss = self._loss_in_parts(images, targets, batch_idx)
            self._settled = self.current_epoch
        self.log_dict({"train_loss": loss, **self._rates()}, batch_size=len(images))
        self._losses.append(loss.detach())
        return loss

    def _rates(self) -> dict[str, float]:
        """Return the rate of each stage that is trained now, and of the head, as loggers show them."""
        learning = [stage.name for stage in self.network.stages[self.network.first :]]
        rates = {group["name"]: group["lr"] for group in self.trainer.optimizers[0].param_groups}
        return {f"lr/{name}": rates[name] for name in (*learning, NEW) if name in rates}

    def _draw(self, batch_idx: int) -> None:
        """Begin the step's own series of chance, for dropout."""
        apart = [self.global_rank] if self.global_rank else []
        torch.manual_seed(number(self.plan.seed, "step", self.current_epoch, batch_idx, *apart))

    def _loss_in_parts(self, images: Tensor, targets: Tensor, batch_idx: int) -> Tensor:
        """Return the loss with its gradients, which no other process has a part in yet: each can try again alone."""
        if batch_idx % self.trainer.accumulate_grad_batches == 0:
            self.zero_grad()  # which Lightning does later; memory may be short before
        learning = [parameter for parameter in self.network.parameters() if parameter.requires_grad]
        statistics = [(buffer, buffer.clone()) for buffer in self.network.buffers()]
        scaler: torch.amp.GradScaler | None = getattr(self.trainer.precision_plugin, "scaler", None)
        scale = None if scaler is None else scaler.scale(torch.ones((), device=images.device))

        def run(most: int) -> Tensor:
            self._draw(batch_idx)
            for buffer, before in statistics:
                buffer.copy_(before)
            return summed((self._loss(images, targets, part) for part in parts(len(images), most)), learning, scale)

        return self.portion(len(images), self.network.least, run)

    def _loss(self, images: Tensor, targets: Tensor, part: slice) -> Tensor:
        """Return what a part of a batch adds to the loss of all of it, the (weighted) mean over its images.

        The losses of auxiliary classifiers count as the backbone's module says.
        """
        weights, smoothing = self.plan.class_weights.to(images.device), self.plan.settings.label_smoothing
        whole = len(images) if targets.is_floating_point() else weights[targets].sum()  # mixed targets are not divided
        losses = [
            functional.cross_entropy(logits, targets[part], weights, reduction="sum", label_smoothing=smoothing) / whole
            for logits in self.network(images[part], auxiliary=True)
        ]
        share: Any = getattr(self.network.module, "auxiliary_weight", 0.0)
        return losses[0] + share * torch.stack(losses[1:]).sum() if losses[1:] else losses[0]

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Work the gradients out, or hand them over."""
        with self._all_at_once():
            super().backward(loss, *args, **kwargs)

    @contextmanager
    def _all_at_once(self) -> Iterator[None]:
        """Word a lack of memory where nothing is tried again: other processes may have a part in it already."""
        try:
            yield
        except (RuntimeError, MemoryError) as err:
            if not is_out_of_memory(err):
                raise
            again = "Go on with `tlkit fit resume=RUN`, which tries its first step in parts, or take"
            if self.sharded:
                again = "A network in shards (trainer.strategy=fsdp) cannot try again in parts: begin a new run with"
            reason = str(err).strip().partition("\n")[0]
            raise TlkitError(
                f"memory ran out in the middle of a step. {again} a smaller strategy.batch_size than "
                f"{self.plan.settings.batch_size}. ({reason})"
            ) from err

    def _input(self, batch: Batch) -> Tensor:
        return batch[0] if batch[0].is_floating_point() else self.plan.preprocess.normalise(batch[0])

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:  # noqa: ANN401
        """Move the average, if there was a step, and the bar."""
        if self.average is not None and self.trainer.global_step > self._averaged:
            self.average.update_parameters(self.network)
            self._averaged = self.trainer.global_step
        due = time.monotonic() - self._told > _NEWS
        self.plan.advance(len(batch[1]) * self.trainer.world_size, self._note() if due else None)

    def _note(self) -> str:
        """Say how training goes: epoch, loss of the last steps, and accuracy of the last validation."""
        self._told = time.monotonic()
        recent = [float(loss) for loss in self._losses[-_RECENT:]]
        loss = f"loss {sum(recent) / len(recent):.3f}" if recent else ""
        accuracy = f"accuracy {self.history[-1]['val_accuracy']:.3f}" if self.history else ""
        return "  ".join(filter(None, (f"epoch {self.current_epoch + 1}", loss, accuracy)))

    def on_validation_start(self) -> None:
        """Let all ranks judge the same network: each has its own statistics of the last batch."""
        if ranks.world()[1] > 1:
            for buffer in self.judged.buffers():
                torch.distributed.broadcast(buffer, 0)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Collect logits and labels."""
        images = self._input(batch)
        if self.sharded:
            with self._all_at_once():
                self._seen.append((self.judged(images).float().cpu(), batch[1].cpu()))
            return

        def run(most: int) -> Tensor:
            return torch.cat([self.judged(images[part]).float().cpu() for part in parts(len(images), most)])

        self._seen.append((self._judging(len(images), 1, run), batch[1].cpu()))

    def on_validation_epoch_end(self) -> None:
        """Measure, and keep the best."""
        validation: Any = self.trainer.val_dataloaders
        logits, labels = _together(self._seen, len(validation.dataset))
        self._seen.clear()
        now = Outcome(self.current_epoch + 1, logits, labels)
        self.log_dict({"val_loss": now.loss, "val_accuracy": now.accuracy})
        if self.best is None or now.rank > self.best[0].rank:
            self.best = now, {name: whole(value) for name, value in self.judged.state_dict().items()}
        losses = self._everyones_losses()
        loss = fsum(losses) / len(losses) if losses else nan  # exact: no matter which rank has which
        self._losses.clear()
        rate = self.trainer.optimizers[0].param_groups[-1]["lr"]
        row = {"epoch": now.epoch, "train_loss": loss, "val_loss": now.loss, "val_accuracy": now.accuracy, "lr": rate}
        self.history.append(row)
        self.plan.advance(0, self._note())
        log.info(
            "epoch {epoch}: loss {train_loss:.3f}, validation loss {val_loss:.3f}, accuracy {val_accuracy:.3f}".format(
                **row
            )
        )

    def _everyones_losses(self) -> list[float]:
        """Return the losses of the epoch so far, of all ranks."""
        shares = ranks.everyones([float(loss) for loss in self._losses])
        return [loss for share in shares for loss in share]


def _together(seen: list[Batch], images: int) -> Batch:
    """Return the logits and labels that all ranks have seen, in the order of one process.

    What comes behind the last of the images is those that some ranks have repeated, to have as many as others.
    """
    shares = ranks.everyones(tuple(torch.cat(parts) for parts in zip(*seen, strict=True)))
    rows = torch.cat([torch.arange(len(labels)) * len(shares) + rank for rank, (_, labels) in enumerate(shares)])
    logits, labels = (torch.cat(parts)[rows.argsort()[:images]] for parts in zip(*shares, strict=True))
    return logits, labels


def _average(network: Network, decay: float) -> AveragedModel:
    """Return a moving average that follows closely at first (TensorFlow's rule for `num_updates`)."""

    def follow(average: Tensor, now: Tensor, steps: Tensor | int) -> Tensor:
        if not average.is_floating_point():  # such as the number of batches that BatchNorm has seen
            return now
        weight = 1 - min(decay, (1 + int(steps)) / (10 + int(steps)))
        return torch.lerp(average, now, weight)  # of equal numbers the same number: what is frozen stays

    return AveragedModel(network, avg_fn=follow, use_buffers=True).requires_grad_(False)


def _mixing(settings: Settings, classes: int) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] | None:
    if not settings.mixup and not settings.cutmix:
        return None
    from timm.data.mixup import Mixup

    # Labels are smoothed by the loss.
    make: Any = Mixup
    mix: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]] = make(
        settings.mixup, settings.cutmix, label_smoothing=0.0, num_classes=classes
    )
    return mix
