"""From classifiers to an ensemble: classes by name, and what a vote learns, learned from images new to all members."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tlkit.classifier import Unseen
from tlkit.ensembles.ensemble import Ensemble, require_same_classes
from tlkit.ensembles.voting import FITTED, Voting, greedy_weights, mixture_weights, reordered, stacking_codes
from tlkit.errors import TlkitError, some

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tlkit.ensembles.ensemble import Member
    from tlkit.heads import Head

    Matrix = NDArray[np.float64]
    Labels = NDArray[np.int64]

_FEWEST = 10  # images to learn a vote from


def make_ensemble(members: Sequence[Member], names: Sequence[str], voting: Voting, seed: int) -> Ensemble:
    """Let classifiers vote.

    Args:
        members: Of the same classes, in whatever order; the first one's order is the ensemble's. "weighted",
            "greedy" and "stacking" learn from their `unseen` probabilities.
        names: What to call them.
        voting: "soft" (mean of the probabilities), "hard" (majority), "weighted" (mean with the weights of least log
            loss), "greedy" (mean of a selection with replacement) or "stacking" (multinomial logistic on the
            members' log probabilities).
        seed: Of the cross-validation of stacking.

    Raises:
        TlkitError: They cannot vote together, or there is nothing that this vote could learn from.
    """
    if len(members) < 2:
        raise TlkitError(f"an ensemble takes two classifiers at least, not {len(members)}.")
    classes = members[0].classes
    for name, member in zip(names, members, strict=True):
        require_same_classes(classes, member.classes, name)
    shared = _shared(classes, members)
    weights: tuple[float, ...] | None = None
    head: Head | None = None
    if voting in FITTED:
        files, labels, probabilities = _enough(shared, members, names, voting)
        if voting == "stacking":
            head = _stacking(probabilities, labels, classes, seed)
        else:
            fit = mixture_weights if voting == "weighted" else greedy_weights
            weights = tuple(fit(probabilities, labels).tolist())
    training = {
        "strategy": "ensemble",
        "voting": voting,
        "members": list(names),
        "weights": weights,
        "learned_from": len(shared[0]) if voting in FITTED and shared else 0,
    }
    ensemble = Ensemble(tuple(classes), tuple(members), tuple(names), voting, weights, head, training)
    if shared is None or not shared[0] or voting in FITTED:  # what it was fitted on, it has seen
        return ensemble
    files, labels, probabilities = shared
    return Ensemble(**{**vars(ensemble), "unseen": Unseen(files, labels, ensemble.vote(probabilities))})


def together(
    classes: Sequence[str], members: Sequence[tuple[Sequence[str], Unseen]]
) -> tuple[tuple[str, ...], Labels, Matrix]:
    """Return what several classifiers say about the images that all of them judge.

    Args:
        classes: The order to bring theirs into.
        members: The classes of each in its own order, and what it says.

    Returns:
        Names of n images, labels (n,) int64, probabilities (m, n, k) float64.

    Raises:
        TlkitError: They disagree on the label of an image.
    """
    # Names that cannot be written may have become the same one: nobody knows which image such a row is about.
    single = [{file for file, times in Counter(said.files).items() if times == 1} for _, said in members]
    common = single[0].intersection(*single[1:])
    files = tuple(file for file in members[0][1].files if file in common)
    found, labels = [], []
    for names, said in members:
        place = {file: row for row, file in enumerate(said.files)}
        rows = [place[file] for file in files]
        found.append(reordered(said.probabilities[rows], names, classes))
        number = np.array([list(classes).index(name) for name in names])
        labels.append(number[said.labels[rows]])
    for other in labels[1:]:
        if len(wrong := np.flatnonzero(other != labels[0])):
            listed = some([files[row] for row in wrong])
            raise TlkitError(f"the labels of {len(wrong)} images differ between the members: {listed}.")
    return files, labels[0], np.stack(found)


def _shared(classes: Sequence[str], members: Sequence[Member]) -> tuple[tuple[str, ...], Labels, Matrix] | None:
    said = [(member.classes, member.unseen) for member in members if member.unseen is not None]
    return together(classes, said) if len(said) == len(members) else None


def _enough(
    shared: tuple[tuple[str, ...], Labels, Matrix] | None, members: Sequence[Member], names: Sequence[str], voting: str
) -> tuple[tuple[str, ...], Labels, Matrix]:
    without = [name for name, member in zip(names, members, strict=True) if member.unseen is None]
    if shared is None:
        raise TlkitError(
            f"voting={voting} learns from images that no member has learned from, and {some(without)} kept no "
            "probabilities of such (too few images, or itself an ensemble with a fitted vote). Take voting=soft."
        )
    if len(shared[0]) < _FEWEST:
        raise TlkitError(
            f"voting={voting} learns from images that no member has learned from, and there are {len(shared[0])} that "
            f"all members judged so, not {_FEWEST}: probes judge their training images out of fold, fine-tuned "
            "networks those that chose the epoch. Give the same data and seed to all members, or take voting=soft."
        )
    return shared


def _stacking(probabilities: Matrix, labels: Labels, classes: Sequence[str], seed: int) -> Head:
    from tlkit.heads import SoftmaxRegression

    if missing := [name for label, name in enumerate(classes) if label not in labels]:
        raise TlkitError(f"voting=stacking: no image to learn from of {some(missing)}. Take voting=weighted.")
    return SoftmaxRegression(scale="none", class_weight=None, random_state=seed).fit(
        stacking_codes(probabilities), labels
    )
