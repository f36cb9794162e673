"""How a network is fine-tuned: a start, a table of what learns how fast, the training, and the better of two ends."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit import ranks, registry
from tlkit.codes import ShareDone
from tlkit.errors import UsageError
from tlkit.progress import progress
from tlkit.strategies.linear_probe import linear_probe

if TYPE_CHECKING:
    from tlkit.backbones import Backbone
    from tlkit.classifier import Classifier
    from tlkit.data import Image, ImageData
    from tlkit.strategies.resources import Resources
    from tlkit.training import Policy, Settings
    from tlkit.training.module import FineTuning, Outcome
    from tlkit.training.network import Network
    from tlkit.training.rates import Rates

log = logging.getLogger(__name__)

HELD_OUT = 0.15  # of the train split, to choose the epoch by, where the data has no split for that


def fit(
    strategy: str,
    backbone: Backbone,
    data: ImageData,
    resources: Resources,
    policy: Policy,
    settings: Settings,
    *,
    probe: bool,
) -> Classifier:
    """Train the stages that the policy names, and a head; return the best epoch, or the probe if no epoch beats it.

    Args:
        strategy: Its name; "scratch" trains at the original rates.
        backbone: It is copied.
        data: Labelled images; what `validation_split` says is held out to choose by.
        resources: What the run shares.
        policy: What is frozen.
        settings: Of the training.
        probe: Whether the head starts from a cross-validated linear probe, and not at random.

    Raises:
        UsageError: A setting makes no sense.
        ShareDone: This is another rank than the first, and has done its share of the training.
        TlkitError: Too few images, or unreadable ones with `data.on_error=raise`.
    """
    from tlkit.training.network import Network
    from tlkit.training.rates import rates, stage_table
    from tlkit.training.trainer import check_trainer

    settings.check()
    if settings.augment == "views" and len(resources.store.views) == 1:
        raise UsageError("strategy.augment=views: codes.views=1 is a single one. Give codes.views=8, or flip.")
    check_trainer(resources.trainer, {"ema": settings.ema, "unfreeze_every": policy.every})
    started = time.perf_counter()
    resources = replace(resources, store=resources.store.staying())
    data = _readable(validation_split(data, resources.seed), backbone, resources, codes=probe)
    log.info("%d images to learn from, %d to choose the epoch by", len(data.rows("train")), len(data.rows("val")))
    resources = replace(resources, store=resources.store.alone())  # the other ranks ask for no codes any more
    start = _probe(backbone, data, resources, settings) if probe and not ranks.launched() else None
    images_a_step = settings.batch_size * int(resources.trainer.get("accumulate_grad_batches", 1))
    chosen_rates = rates(backbone, settings, images_a_step, scratch=strategy == "scratch")
    kept = settings.batch_norm == "kept" or (
        settings.batch_norm == "auto" and probe and chosen_rates.optimizer == "adamw"
    )
    network = Network(backbone, len(data.classes), keep_statistics=kept)
    _start_head(network, start, resources.seed)
    stages = stage_table(network, chosen_rates, policy)
    log.info(_listed(stages))
    begun = time.perf_counter()
    module = _trained(network, data, policy, chosen_rates, settings, resources, backbone)
    if ranks.launched():
        raise ShareDone
    training = {
        "strategy": strategy,
        "head": "trained",
        "taps": ["pool"],
        "train_images": len(data.rows("train")),
        "validation_images": len(data.rows("val")),
        "settings": {**asdict(settings), **_spelled(chosen_rates)},
        "stages": stages,
        "epochs": module.history,
        "micro_batch": module.portion.size or settings.batch_size // ranks.world()[1],
        "seconds": {"start": round(begun - started, 2), "training": round(time.perf_counter() - begun, 2)},
    }
    if batches := int(resources.trainer.get("fast_dev_run") or 0):
        training["trial"] = f"{batches} batch{'es' if batches > 1 else ''}"
    return _better(start, module, backbone, data, resources, training)


def validation_split(data: ImageData, seed: int) -> ImageData:
    """Return the images to learn from ("train") and those to choose the epoch by ("val").

    The latter are the val split, but for data whose results are reported on it: choosing by what is reported would
    flatter. Then a stratified part of the train split is held out.
    """
    from tlkit.data import prepare

    if data.held_out == "test" and len(data.rows("val")):
        return data.select(np.flatnonzero(data.split != "test"))
    return prepare(data.select(data.rows("train")), seed, val_size=HELD_OUT, test_size=0, on_error=data.on_error)


def reborn(backbone: Backbone, seed: int) -> Backbone:
    """Return the same architecture with random weights."""
    import torch

    torch.manual_seed(seed)
    fresh: Backbone = registry.build("backbone", {**backbone.spec, "weights": None})
    return fresh


def _readable(data: ImageData, backbone: Backbone, resources: Resources, *, codes: bool) -> ImageData:
    """Leave unreadable images out; a pass for codes, where one is made anyway, tells which these are."""
    if codes:
        return data.without(resources.store.codes(backbone, data.images, ["pool"]).errors)
    return data.without(_unreadable(data.images, resources.store.workers))


def _unreadable(images: Sequence[Image], workers: int) -> dict[int, str]:
    from tlkit.codes.stream import ahead
    from tlkit.data import UnreadableImage, decode

    def look(row: int) -> str | None:
        try:
            decode(images[row])
        except UnreadableImage as err:
            return str(err)
        return None

    with (
        progress("looking the images over", len(images)) as advance,
        closing(ahead(look, len(images), workers, 4 * workers)) as looks,
    ):
        errors = {}
        for row, error in enumerate(looks):
            advance(1)
            if error is not None:
                errors[row] = error
    return errors


def _probe(backbone: Backbone, data: ImageData, resources: Resources, settings: Settings) -> Classifier:
    quiet = replace(resources, trainer={})
    weight = "balanced" if settings.sampler == "balanced" else settings.class_weight
    return linear_probe(backbone, data, quiet, head="softmax", scale="standard", class_weight=weight, allow_random=True)


def _start_head(network: Network, probe: Classifier | None, seed: int) -> None:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for part in (network.head, *network.auxiliary.modules()):
            reset: Any = getattr(part, "reset_parameters", None)
            if reset is not None:
                reset()
    if probe is not None:
        head: Any = probe.head
        network.start_from(head.coef_, head.intercept_, head.temperature_)


def _trained(
    network: Network,
    data: ImageData,
    policy: Policy,
    rates: Rates,
    settings: Settings,
    resources: Resources,
    backbone: Backbone,
) -> FineTuning:
    import torch

    from tlkit.heads.settings import class_weights
    from tlkit.training.augment import augmented, plain
    from tlkit.training.kept import kept_activations
    from tlkit.training.loading import training_loader, validation_loader
    from tlkit.training.module import FineTuning, Plan
    from tlkit.training.search import search
    from tlkit.training.trainer import EPOCHS, train

    learned, judged = data.select(data.rows("train")), data.select(data.rows("val"))
    k = len(data.classes)
    balance = settings.sampler == "balanced"
    weights = class_weights(
        None if balance else settings.class_weight, np.arange(k), np.bincount(learned.labels, minlength=k)
    )
    store, seed = resources.store, resources.seed
    common = (settings.batch_size, seed, store.workers)
    kept = kept_activations(network, backbone, learned, judged, policy, settings, store, seed)
    images = augmented(backbone.preprocess, settings, store.views), plain(backbone.preprocess)
    training = training_loader(learned, kept[0] if kept else images[0], *common, balance=balance)
    validation = validation_loader(judged, kept[1] if kept else images[1], *common)
    epochs = int(resources.trainer.get("max_epochs") or EPOCHS)
    steps = resources.rates_to_try
    total = (steps or epochs * len(training)) * (training.batch_size or 1) * ranks.world()[1]
    with progress(f"training {backbone.name}", total) as advance:
        preprocess, tensor = backbone.preprocess, torch.from_numpy(weights).float()
        module = FineTuning(network, Plan(policy, rates, settings, preprocess, tensor, resources.seed, advance))
        task = _task(backbone, data, resources, repr((policy, rates, settings)))
        if steps is not None:
            search(module, training, resources.trainer, steps)
        train(module, training, validation, resources.trainer, resources.folder, task, resources.logging)
    module.network.split = None  # from now on it is given images
    return module


def _task(backbone: Backbone, data: ImageData, resources: Resources, plan: str) -> dict[str, str]:
    """Return what tells whether a checkpoint is one of this training."""
    if resources.folder is None:
        return {}
    from tlkit.backbones import state_digest
    from tlkit.data import fingerprint

    split = [] if data.split is None else data.split.tolist()
    labelled = (data.files, [data.classes[label] for label in data.labels], split)
    return {
        "the list of images": sha256(repr(labelled).encode()).hexdigest(),
        "the images": fingerprint(data.images),
        "the backbone": state_digest(backbone.module),
        "the settings": repr((plan, sorted(resources.trainer.items()), resources.seed)),
    }


def _better(
    start: Classifier | None,
    module: FineTuning,
    backbone: Backbone,
    data: ImageData,
    resources: Resources,
    training: dict[str, Any],
) -> Classifier:
    """Return the start if no epoch was better on the validation images, else the best epoch."""
    best = module.best[0] if module.best else None
    before = _outcome(start, data, resources) if start else None
    facts = {
        **training,
        "start_accuracy": before.accuracy if before else None,
        "validation_accuracy": best.accuracy if best else None,
        "kept": f"epoch {best.epoch}" if best else "the last epoch",
    }
    if start is not None and before is not None and best is not None and before.rank > best.rank:
        log.warning(
            "training did not help: validation accuracy %.3f (loss %.3f) at best, %.3f (loss %.3f) before it. "
            "The linear probe that it started from is kept.",
            *(best.accuracy, best.loss, before.accuracy, before.loss),
        )
        return replace(start, training={**facts, "kept": "the probe that training started from"})
    return _classifier(module.network, best, backbone, data, resources, facts)


def _outcome(probe: Classifier, data: ImageData, resources: Resources) -> Outcome:
    import torch

    from tlkit.training.module import Outcome

    judged = data.select(data.rows("val"))
    probabilities = probe.predict_proba(judged.images, resources.store)
    logits = torch.from_numpy(probabilities).clamp(min=1e-30).log()
    return Outcome(0, logits, torch.from_numpy(judged.labels))


def _classifier(
    network: Network,
    best: Outcome | None,
    backbone: Backbone,
    data: ImageData,
    resources: Resources,
    training: Mapping[str, Any],
) -> Classifier:
    from tlkit.classifier import Classifier, Unseen
    from tlkit.heads import TrainedHead
    from tlkit.heads.calibration import probabilities

    scores, labels = (best.logits.numpy(), best.labels.numpy()) if best else (np.empty((0, len(data.classes))), [])
    weight, bias = (parameter.detach().numpy() for parameter in (network.head.weight, network.head.bias))
    head = TrainedHead.of(weight, bias, scores, np.asarray(labels, dtype=np.int64))
    tuned = replace(backbone, module=network.module, weights=_provenance(backbone, network))
    judged = data.rows("val")
    files, said = tuple(data.files[row] for row in judged), probabilities(scores, head.temperature_)
    whole = len(said) == len(judged)  # a trial looks at a few
    unseen = Unseen(files, data.labels[judged], said.astype(np.float32)) if whole else None
    return Classifier(data.classes, tuned, ("pool",), head, dict(training), resources.store.recipe, unseen)


def _provenance(backbone: Backbone, network: Network) -> Any:  # noqa: ANN401
    from tlkit.backbones import Weights, state_digest

    before = backbone.weights
    source = f"fine-tuned from sha256 {before.sha256} ({before.source})" if before else "trained from random weights"
    sha256 = state_digest(network.module)
    if before is None:
        return Weights(source=source, sha256=sha256, num_classes=0, trained=True)
    # The old classifier is still in the network, but its classes are nothing to the new weights.
    return replace(before, source=source, sha256=sha256, num_classes=0, class_names=None, trained=True)


def _spelled(rates: Rates) -> dict[str, Any]:
    return {
        "optimizer": rates.optimizer,
        "lr": rates.stages[-1],
        "head_lr": rates.head,
        "weight_decay": rates.weight_decay,
    }


def _listed(stages: Sequence[Mapping[str, Any]]) -> str:
    width = max(len("stage"), *(len(row["stage"]) for row in stages))
    lines = [f"{'stage':{width}}  {'parameters':>12}  {'learning rate':>13}  training"]
    lines += [f"{r['stage']:{width}}  {r['parameters']:>12,}  {r['lr']:>13.2g}  {r['training']}" for r in stages]
    return "\n".join(lines)
