"""What a user chooses about training; what Lightning's Trainer has already (epochs, precision, ...) is not repeated."""

from __future__ import annotations

import inspect
import os
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from tlkit.errors import UsageError

_F = TypeVar("_F", bound=Callable[..., Any])
_FIELDS = "    settings: the fields of `tlkit.training.Settings`."
_SHARES = ("warmup", "label_smoothing", "random_erasing", "color_jitter")  # 0 to 1
_STRENGTHS = ("mixup", "cutmix")  # 0 and above
_SHARDED_PRECISIONS = ("32", "32-true", "bf16", "bf16-mixed")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a network is trained.

    Attributes:
        optimizer: "sgd" (momentum 0.9), "adamw", or "auto": the one of the backbone's original recipe.
        lr: of the backbone's last stage; None for a tenth of the original one, scaled with the batch size. A new head
            has ten times that.
        weight_decay: None for the original one.
        layer_decay: each stage has this many times the rate of the stage after it.
        batch_size: images a step, before `trainer.accumulate_grad_batches`.
        schedule: "cosine" (after a linear warm-up), "plateau" (a tenth whenever the validation loss has not fallen for
            three epochs), "step" (a tenth after each third) or "onecycle" (Smith and Topin 2017).
        warmup: cosine: share of all steps in which the rate rises.
        label_smoothing: share of each label that is spread over all classes (Szegedy et al. 2015).
        augment: "none", "flip" (left to right), "crop" (random resized crop), "standard" (both), "randaugment" (Cubuk
            et al. 2019) or "trivialaugment" (Mueller and Hutter 2021), both on top of the standard; or "views": one of
            `codes.views` in each epoch. With "none" and "views" the frozen stages of `partial` run only once. Mirrored
            writing is other writing: "crop" or "none" for that.
        color_jitter: largest relative change of brightness, contrast and saturation.
        random_erasing: share of images in which a rectangle is erased (Zhong et al. 2017).
        mixup: alpha of mixup (Zhang et al. 2017); 0 for none.
        cutmix: alpha of CutMix (Yun et al. 2019); 0 for none.
        ema: decay of an exponential moving average of the weights, which then is the result; 0 for none.
        early_stopping: epochs without a lower validation loss after which training ends; None for never.
        batch_norm: whether the statistics of the trained part are "moving" or "kept" as they are; "auto" keeps them
            under AdamW, so that training starts from what the probe was fitted on. SGD at the usual rates relies on
            batches being normalised, and can lose everything without.
        class_weight: "balanced" weighs classes by the inverse of their size; "auto" does so when the largest is over
            three times the smallest.
        sampler: "balanced" shows equally many images of each class in an epoch, some of small classes several times,
            and some of large ones not at all, in place of class weights; "shuffled" shows each image once.
    """

    optimizer: Literal["auto", "sgd", "adamw"] = "auto"
    lr: float | None = None
    weight_decay: float | None = None
    layer_decay: float = 1.0
    batch_size: int = 32
    schedule: Literal["cosine", "plateau", "step", "onecycle"] = "cosine"
    warmup: float = 0.1
    label_smoothing: float = 0.0
    augment: Literal["none", "flip", "crop", "standard", "randaugment", "trivialaugment", "views"] = "standard"
    color_jitter: float = 0.0
    random_erasing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    ema: float = 0.0
    early_stopping: int | None = None
    batch_norm: Literal["auto", "moving", "kept"] = "auto"
    class_weight: Literal["auto", "balanced"] | None = "auto"
    sampler: Literal["shuffled", "balanced"] = "shuffled"

    def check(self) -> None:
        """Check what the types leave open.

        Raises:
            UsageError: a number is out of its range.
        """
        ranges = {
            "lr": (self.lr is None or self.lr > 0, "above 0"),
            "weight_decay": (self.weight_decay is None or self.weight_decay >= 0, "0 or more"),
            "layer_decay": (0 < self.layer_decay <= 1, "above 0 and at most 1"),
            "batch_size": (self.batch_size > 0, "above 0"),
            "ema": (0 <= self.ema < 1, "at least 0 and below 1"),
            "early_stopping": (self.early_stopping is None or self.early_stopping > 0, "above 0"),
            **{name: (0 <= getattr(self, name) <= 1, "from 0 to 1") for name in _SHARES},
            **{name: (getattr(self, name) >= 0, "0 or more") for name in _STRENGTHS},
        }
        for name, (good, wanted) in ranges.items():
            if not good:
                raise UsageError(f"strategy.{name}={getattr(self, name)}: give a number {wanted}.")
        if self.sampler == "balanced" and self.class_weight == "balanced":
            raise UsageError(
                "strategy.sampler=balanced does what strategy.class_weight=balanced does: give one of them."
            )
        if self.augment == "views" and (self.color_jitter or self.random_erasing):
            raise UsageError(
                "strategy.augment=views: views are shown as they are. Leave color_jitter and random_erasing."
            )


def in_shards(trainer: Mapping[str, Any]) -> bool:
    """Tell whether no process is to hold the network whole."""
    return trainer.get("strategy") == "fsdp"


def check_sharing(trainer: Mapping[str, Any], strategy: Mapping[str, Any]) -> None:
    """Check how processes are to share a training.

    Args:
        trainer: Settings of Lightning's Trainer.
        strategy: Settings of the training.

    Raises:
        UsageError: in another way than DDP or FSDP, by one process, or with something that a network in shards cannot.
    """
    if trainer.get("strategy", "auto") not in ("auto", "ddp", "fsdp"):
        raise UsageError(
            f"trainer.strategy={trainer['strategy']}: processes share a training with ddp, each with the network "
            "whole, or with fsdp, each with a part of it. Leave it out for ddp."
        )
    if not in_shards(trainer):
        return
    devices = trainer.get("devices", 1)
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 and not (isinstance(devices, int) and devices > 1):
        raise UsageError(
            f"trainer.strategy=fsdp: one process (trainer.devices={devices}) holds the network whole anyway. Give the "
            "number of GPUs, trainer.devices=2 or more, or start as many with torchrun."
        )
    unfit = [f"strategy.{name}={strategy[name]}" for name in ("ema", "unfreeze_every") if strategy.get(name)]
    unfit += [f"trainer.{name}=true" for name in ("compile", "sync_batchnorm") if trainer.get(name)]
    if str(trainer.get("precision", 32)) not in _SHARDED_PRECISIONS:
        unfit.append(f"trainer.precision={trainer['precision']}")
    if unfit:
        raise UsageError(
            f"trainer.strategy=fsdp does not go with {' and '.join(unfit)}. Leave that out, or trainer.strategy. "
            "Precisions are 32-true and bf16-mixed."
        )


def with_settings(function: _F) -> _F:
    """Give a strategy the fields of `Settings`, and their docs, as keyword-only parameters in place of `**settings`."""
    own, shared = inspect.signature(function), inspect.signature(Settings)
    hints = typing.get_type_hints(Settings)
    fields = [p.replace(annotation=hints[name]) for name, p in shared.parameters.items()]
    kept = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
    function.__signature__ = own.replace(parameters=[*kept, *fields])  # type: ignore[attr-defined]
    function.__annotations__ |= hints
    told = inspect.cleandoc(Settings.__doc__ or "").partition("Attributes:\n")[2]
    function.__doc__ = inspect.cleandoc(function.__doc__ or "").replace(_FIELDS, told)
    return function
