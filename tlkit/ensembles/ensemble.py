"""The ensemble: several classifiers that vote; is itself a classifier, with the same predict, save and load."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, get_args

import numpy as np

from tlkit import files
from tlkit.backbones import state_digest
from tlkit.classifier import Classifier, Predictor, Unseen
from tlkit.codes import CodesStore, compute_together
from tlkit.data import Image
from tlkit.ensembles.voting import Voting, hard, reordered, soft, stacking_codes
from tlkit.errors import TlkitError, did_you_mean, some
from tlkit.heads import Head, load_head, save_head

if TYPE_CHECKING:
    from numpy.typing import NDArray


Member: TypeAlias = "Classifier | Ensemble"

FORMAT = 1
RECORD = "ensemble.json"
_DEEPEST = 5  # ensembles of ensembles


@dataclass(frozen=True)
class Ensemble(Predictor):
    """Images to class probabilities, by a vote.

    Attributes:
        classes: names of the k classes, in the order of the probabilities.
        members: m classifiers or ensembles of the same classes, each in an order of its own.
        names: what to call the members.
        voting: "hard", "soft", "weighted", "greedy" or "stacking".
        weights: of the members in a vote; None for equal ones, and for stacking.
        head: of stacking, on `stacking_codes`.
        training: JSON-able facts about how it was made.
        unseen: what it says about images that none of its members has learned from; not saved with it.
    """

    classes: tuple[str, ...]
    members: tuple[Member, ...]
    names: tuple[str, ...]
    voting: Voting
    weights: tuple[float, ...] | None = None
    head: Head | None = None
    training: dict[str, Any] = field(default_factory=dict)
    unseen: Unseen | None = None

    def vote(self, probabilities: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """Return the ensemble's probabilities, float32 (n, k), of its members', (m, n, k) in the order of `classes`."""
        if self.head is not None:
            return np.asarray(self.head.predict_proba(stacking_codes(probabilities)), dtype=np.float32)
        rule = hard if self.voting == "hard" else soft
        return rule(probabilities, self.weights).astype(np.float32)

    def vote_without(self, probabilities: NDArray[np.floating[Any]], number: int) -> NDArray[np.float32] | None:
        """Return what the others of three members or more say, with their weights as they are; None if nobody can tell.

        A stacking head cannot do without a member.
        """
        others = [other for other in range(len(self.members)) if other != number]
        weights = None if self.weights is None else np.array(self.weights)[others]
        if len(others) < 2 or self.head is not None or (weights is not None and weights.sum() == 0):
            return None
        rule = hard if self.voting == "hard" else soft
        return rule(probabilities[others], weights).astype(np.float32)

    def judge(
        self, images: Sequence[Image], store: CodesStore | None = None
    ) -> tuple[NDArray[np.float32], dict[int, str]]:
        """Return probabilities, float32 (n, k), NaN for unreadable images, and why these are unreadable, by number."""
        store = store or CodesStore()
        _one_pass_each(self.members, images, store)
        each, errors = [], dict[int, str]()
        for member in self.members:
            said, wrong = member.judge(images, self.store_of(member, store))
            each.append(reordered(said, member.classes, self.classes))
            errors |= wrong
        readable = np.array([row for row in range(len(images)) if row not in errors], dtype=np.int64)
        probabilities = np.full((len(images), len(self.classes)), np.nan, dtype=np.float32)
        if len(readable):
            probabilities[readable] = self.vote(np.stack(each)[:, readable])
        return probabilities, dict(sorted(errors.items()))

    def store_of(self, member: Member, store: CodesStore) -> CodesStore:
        """Return the store for codes as a member learned on them."""
        return store if isinstance(member, Ensemble) else store.like(member.recipe)

    @property
    def taps(self) -> tuple[str, ...]:
        """Taps of the first network."""
        return self.members[0].taps

    def save(self, folder: Path) -> None:
        """Write the ensemble with all its members: JSON and safetensors, nothing executable."""
        for number, member in enumerate(self.members):
            member.save(_place(folder, number))
        if self.head is not None:
            save_head(self.head, folder)
        record = {
            "format": FORMAT,
            "classes": list(self.classes),
            "members": list(self.names),
            "voting": self.voting,
            "weights": None if self.weights is None else list(self.weights),
            "training": self.training,
        }
        files.write_json(folder / RECORD, record)


def load_classifier(folder: Path, weights: str | None = None, *, depth: int = 0) -> Member:
    """Read a classifier or an ensemble back.

    Args:
        folder: where `save` wrote it.
        weights: where the backbone's weights of a classifier are now, if not where they were.
        depth: how many ensembles this one is within.

    Raises:
        TlkitError: the folder holds neither, or weights cannot be had.
    """
    if not (folder / RECORD).is_file():
        return Classifier.load(folder, weights)
    if weights is not None:
        raise TlkitError(f"{folder} is an ensemble: weights={weights} cannot be those of all its members.")
    record = _read_record(folder / RECORD)
    if depth >= _DEEPEST:
        raise TlkitError(f"{folder}: more than {_DEEPEST} ensembles within each other.")
    classes = tuple(record["classes"])
    members = tuple(
        load_classifier(_place(folder, number), depth=depth + 1) for number in range(len(record["members"]))
    )
    for name, member in zip(record["members"], members, strict=True):
        require_same_classes(classes, member.classes, name)
    head = load_head(folder) if record["voting"] == "stacking" else None
    if head is not None and (head.n_features_in_, len(head.classes_)) != (len(members) * len(classes), len(classes)):
        raise TlkitError(f"{folder}: the head is not one for {len(members)} members. Copy the run again.")
    weighing = None if record["weights"] is None else tuple(map(float, record["weights"]))
    names = tuple(record["members"])
    return Ensemble(classes, members, names, record["voting"], weighing, head, record["training"])


def require_same_classes(classes: Sequence[str], others: Sequence[str], name: str) -> None:
    """Stop unless a member knows the very classes, in whatever order.

    Raises:
        TlkitError: with the names that differ.
    """
    if missing := sorted({*classes} - {*others}):
        hint = did_you_mean(missing[0], others)
        raise TlkitError(f"{name} does not know the classes {some(missing)}, which others know, and cannot vote.{hint}")
    if strange := sorted({*others} - {*classes}):
        hint = did_you_mean(strange[0], classes)
        raise TlkitError(f"{name} knows classes that others do not, {some(strange)}, and cannot vote.{hint}")


def networks(members: Sequence[Member]) -> dict[str, tuple[Classifier, list[str]]]:
    """Return, by what tells networks and recipes apart, one of the classifiers that share it, and all their taps."""
    groups: dict[str, tuple[Classifier, list[str]]] = {}
    for member in members:
        if isinstance(member, Ensemble):
            own = networks(member.members)
        else:
            backbone = member.backbone
            told = [backbone.name, state_digest(backbone.module), backbone.preprocess.to_dict(), member.recipe]
            own = {json.dumps(told, sort_keys=True): (member, list(member.taps))}
        for key, (classifier, taps) in own.items():
            _, shared = groups.setdefault(key, (classifier, []))
            shared += [tap for tap in taps if tap not in shared]
    return groups


def _one_pass_each(members: Sequence[Member], images: Sequence[Image], store: CodesStore) -> None:
    """Let each network see the images once, at all the taps that any member takes."""
    asks = [(store.like(own.recipe), own.backbone, taps) for own, taps in networks(members).values()]
    compute_together(asks, images)


def _place(folder: Path, number: int) -> Path:
    return folder / "members" / f"{number:03d}"


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as err:
        raise TlkitError(f"{path}: cannot be read: {err}. Copy the run again.") from err
    if not isinstance(record, dict) or record.get("format") != FORMAT or not _is_whole(record):
        raise TlkitError(f"{path} is not a record of an ensemble, or is damaged. Copy the run again.")
    return record


def _is_whole(record: Mapping[str, Any]) -> bool:
    members, classes, weights = (record.get(name) for name in ("members", "classes", "weights"))
    return (
        _are_names(members)
        and _are_names(classes)
        and len({*classes}) == len(classes)  # type: ignore[misc, arg-type]
        and record.get("voting") in get_args(Voting)
        and isinstance(record.get("training"), dict)
        and (weights is None or _are_weights(weights, len(members)))  # type: ignore[arg-type]
    )


def _are_names(value: object) -> bool:
    return isinstance(value, list) and len(value) > 0 and all(isinstance(name, str) for name in value)


def _are_weights(value: object, n: int) -> bool:
    numbers = value if isinstance(value, list) else []
    return (
        len(numbers) == n
        and all(type(number) in (int, float) and number >= 0 for number in numbers)
        and 0 < sum(numbers) < float("inf")
    )
