"""Split images into train, val and test: stratified, seeded, groups kept together; then check the result."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable
from dataclasses import replace
from hashlib import sha256
from typing import Literal

import numpy as np
import numpy.typing as npt

from tlkit.data.imagedata import ImageData, Strings
from tlkit.errors import TlkitError, UsageError, some

_WORDS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}


def split_named(word: str) -> str | None:
    """Return "train", "val" or "test" for a word that people use for it, else None.

    >>> split_named("Validation"), split_named("ants")
    ('val', None)
    """
    return next((split for split, words in _WORDS.items() if word.strip().casefold() in words), None)


def prepare(
    data: ImageData,
    seed: int,
    *,
    val_size: float = 0.0,
    test_size: float = 0.2,
    on_error: Literal["skip", "raise"] = "skip",
    similarity: Literal["similar", "different"] | None = None,
    split_seed: int | None = None,
) -> ImageData:
    """Give data a split where it has none, and check that a classifier can be learned and judged with it.

    A source's own split is kept; `test_size` counts only where a source has neither val nor test, and `val_size` only
    where it has no val. What is held out is chosen from the file names and the seed alone: the same files are split
    alike in whatever order they are listed, and new files move few others. Of every class the share asked for is held
    out, to within one image: at least one, and never the last. The only image of a class therefore stays in train,
    and `inspect` says that the class cannot be judged. Groups are never torn, so with them shares are approximate.

    Args:
        data: Images from any source.
        seed: Another seed, another split.
        val_size: Share of all images held out for choosing between models.
        test_size: Share of all images held out for the final judgement.
        on_error: Leave unreadable images out and say so ("skip"), or stop ("raise").
        similarity: Whether the images are like those that the backbone was pretrained on; None: `strategy=auto`
            measures it.
        split_seed: Of the split alone, so that runs of other seeds learn from, and are judged on, the same images;
            `seed` if None.

    Raises:
        UsageError: Shares outside 0 to 1.
        TlkitError: Fewer than two classes, a class without training images, or groups that cannot be split.
    """
    _check_sizes(val_size, test_size)
    seed = seed if split_seed is None else split_seed
    _check_rows(data)
    split = np.full(len(data), "train") if data.split is None else data.split.astype("<U5")
    present = set(split.tolist())
    per_class = Counter(data.labels[split == "train"].tolist())
    if test_size and present <= {"train"}:
        _hold_out(data, split, "test", _targets(per_class, test_size), seed)
    if val_size and "val" not in present:
        _hold_out(data, split, "val", _targets(per_class, val_size), seed)
    prepared = replace(data, split=split, on_error=on_error, similarity=similarity)
    _check_learnable(prepared)
    return prepared


def _targets(per_class: Counter[int], share: float) -> dict[int, float]:
    return {label: max(1.0, share * n) for label, n in per_class.items()}


def _hold_out(data: ImageData, split: Strings, name: str, targets: dict[int, float], seed: int) -> None:
    """Move a stratified part of the train rows to another split, in place."""
    rows = np.flatnonzero(split == "train")
    units = data.files if data.groups is None else data.groups.tolist()
    held = _choose([units[row] for row in rows], data.labels[rows].tolist(), targets, f"{seed}/{name}")
    if len(rows) and not held.any():
        kind = "image" if data.groups is None else f"whole group (there are {len(set(units))})"
        raise TlkitError(
            f"{data.name}: no {kind} can be held out for {name} without a class losing its last training image. "
            "Add images, or use a source with splits of its own."
        )
    split[rows[held]] = name


def _choose(units: list[str], labels: list[int], targets: dict[int, float], salt: str) -> npt.NDArray[np.bool_]:
    """Choose units (files or groups), in the order of a hash, if they bring the classes closer to their targets.

    Returns:
        (n,) bool: held out. With units of one image a class reaches its target, rounded; it never loses all images.
    """
    size = Counter(labels)
    content: dict[str, Counter[int]] = defaultdict(Counter)
    for unit, label in zip(units, labels, strict=True):
        content[unit][label] += 1
    order = sorted(content, key=lambda unit: sha256(f"{salt}/{unit}".encode(errors="surrogatepass")).digest())
    held: Counter[int] = Counter()

    def gain(unit: str) -> float:
        """Return by how much the squared distance from the targets shrinks; -inf if a class would be used up."""
        more = content[unit]
        if any(held[label] + n >= size[label] for label, n in more.items()):
            return -math.inf
        missing = {label: targets[label] - held[label] for label in more}
        return sum((missing[label] ** 2 - (missing[label] - n) ** 2) / size[label] for label, n in more.items())

    chosen = set()
    for unit in order:
        if gain(unit) > 0:
            held.update(content[unit])
            chosen.add(unit)
    if not chosen and order and gain(best := max(order, key=gain)) > -math.inf:
        chosen.add(best)  # a few large groups: too much held out is better than nothing
    return np.array([unit in chosen for unit in units], dtype=np.bool_)


def _check_sizes(val_size: float, test_size: float) -> None:
    for key, size in (("val_size", val_size), ("test_size", test_size)):
        if not 0 <= size < 1:
            raise UsageError(f"data.{key}={size}: give a share of the images, at least 0 and below 1.")
    if val_size + test_size >= 1:
        raise UsageError(f"data.val_size={val_size} and data.test_size={test_size} leave nothing to train on.")


def _check_rows(data: ImageData) -> None:
    n = len(data)
    columns = (data.images, data.labels, data.split, data.groups)
    if any(column is not None and len(column) != n for column in columns):
        raise TlkitError(f"{data.name}: images, files, labels, split and groups are not of one length.")
    if repeated := _repeated(data.files):
        raise TlkitError(f"{data.name}: files named more than once: {some(repeated)}.")
    if list(data.classes) != sorted(set(data.classes)):
        raise TlkitError(f"{data.name}: class names must differ and be sorted, got {some(data.classes)}.")
    if len(data.classes) < 2:
        raise TlkitError(f"{data.name}: a classifier needs at least two classes, found {some(data.classes) or 'none'}.")
    if n and not 0 <= data.labels.min() <= data.labels.max() < len(data.classes):
        raise TlkitError(f"{data.name}: labels must be positions in the {len(data.classes)} classes.")
    if data.split is not None and (unknown := set(data.split.tolist()) - _WORDS.keys()):
        raise TlkitError(f"{data.name}: splits are train, val and test, got {some(sorted(unknown))}.")


def _repeated(items: tuple[Hashable, ...]) -> list[Hashable]:
    return [item for item, n in Counter(items).items() if n > 1]


def _check_learnable(data: ImageData) -> None:
    """Raise unless every class can be learned, and there is something to judge the result by."""
    present = set(data.labels[data.rows("train")].tolist())
    missing = [label for label in range(len(data.classes)) if label not in present]
    if missing:
        elsewhere = sorted(set(np.asarray(data.split)[np.isin(data.labels, missing)].tolist()))
        raise TlkitError(
            f"{data.name}: no training image of class {some(data.classes[label] for label in missing)}; "
            f"images of it are in: {some(elsewhere) or 'no split'}. "
            "Add training images or leave the class out; names must be written alike in all splits."
        )
    if not len(data.rows(data.held_out)):
        raise UsageError(
            "data.test_size=0 and data.val_size=0 leave nothing to judge the result by; set one, say to 0.2."
        )
