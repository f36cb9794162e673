"""`tlkit ensemble`: finished runs vote, on what they have said about the same held-out images."""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tlkit import files, results
from tlkit.comparison.finished import DATA, find_runs, origin
from tlkit.ensembles.voting import VOTINGS, Voting
from tlkit.errors import TlkitError, UsageError, some
from tlkit.progress import progress
from tlkit.runs import MODEL, directory, short
from tlkit.tables import on_screen
from tlkit.words import words

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from tlkit.classifier import Unseen
    from tlkit.codes import CodesStore
    from tlkit.data import ImageData
    from tlkit.ensembles.ensemble import Ensemble, Member

    Matrix = NDArray[np.float64]
    Labels = NDArray[np.int64]

log = logging.getLogger(__name__)


def ensemble(
    run_dir: Path,
    *,
    runs: str | list[str],
    voting: Voting,
    codes: dict[str, Any],
    cache: dict[str, Any],
    seed: int,
) -> tuple[Path, Ensemble, dict[str, Any], pd.DataFrame]:
    """Let finished runs vote; measure the ensemble beside its members, without a pass over the images; write a run.

    Returns:
        where it is, the ensemble, its metrics, and its predictions of the images that all members held out.

    Raises:
        UsageError: fewer than two runs.
        TlkitError: no such runs, or they cannot vote together.
    """
    from tlkit.codes import CodesStore, cache_at
    from tlkit.ensembles.making import make_ensemble
    from tlkit.reports import Shown

    started = time.perf_counter()
    folders = _found(runs)
    names = _names(folders)
    record = {"runs": [str(folder.absolute()) for folder in folders], "voting": voting, "seed": seed}
    with directory(run_dir, record) as out:
        with progress("loading the members"):
            members = [_member(folder) for folder in folders]
        made = make_ensemble(members, names, voting, seed)
        held_out = [_held_out(folder, member) for folder, member in zip(folders, members, strict=True)]
        store = CodesStore(cache_at(**cache), **codes)
        metrics, predictions = judged(made, held_out, store, seed)
        metrics |= {"passes": store.passes, "training": made.training}
        made.save(out / MODEL)
        if shared := _origin(folders, names):
            files.write_json(out / DATA, shared)
        results.write_members(out, metrics["members"])
        shown = Shown(made, results.spelled("ensemble", record), time.perf_counter() - started)
        results.write_results(out, metrics, predictions, shown)
    folder = shlex.quote(short(out))
    print("\n".join([*report(metrics), f"results: {short(out)}", f"next:    tlkit predict run={folder} images=FOLDER"]))
    return out, made, metrics, predictions


def judged(
    made: Ensemble, held_out: Sequence[Unseen], store: CodesStore, seed: int
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Measure an ensemble and its members on the images that all of them held out, by what each said about these.

    Returns:
        metrics, with "members", a table of the members and the ensemble, and "other_votes"; predictions.

    Raises:
        TlkitError: no image was held out by all, or they disagree on labels.
    """
    from tlkit.classifier import predictions_table
    from tlkit.ensembles.making import together
    from tlkit.evaluation import evaluate
    from tlkit.evaluation.votes import votes_table

    said = [(member.classes, rows) for member, rows in zip(made.members, held_out, strict=True)]
    shared, labels, each = together(made.classes, said)
    if not shared:
        raise TlkitError(
            "no image was held out by all of the members, so nothing tells what the ensemble is worth. Give all of "
            "them the same data and seed; or, for networks of different seeds, data.split_seed=1."
        )
    if len(shared) < max(len(rows.files) for rows in held_out):
        log.warning("judged on the %d images that all members held out", len(shared))
    whole = made.vote(each)
    without = partial(made.vote_without, each)
    rows = votes_table(made.names, each, whole, without, labels, made.classes, seed)
    weights = [*(made.weights or [None] * len(made.members)), None]
    for row, weight, rate in zip(rows, weights, _costs(made, store), strict=True):
        row |= {"weight": weight, "images_per_second": rate}
    metrics = {
        "split": "held out",
        "unreadable": 0,
        **evaluate(whole, labels, made.classes),
        "members": rows,
        "other_votes": _other_votes(made, each, labels, seed),
    }
    predictions = predictions_table(made.classes, whole, {}, shared)
    predictions.insert(1, "label", [made.classes[label] for label in labels])
    return metrics, predictions.drop(columns="error")


def said_of(made: Ensemble, images: ImageData, store: CodesStore) -> list[Unseen]:
    """Return what each member says of images, all of which can be read."""
    from tlkit.classifier import Unseen

    said = []
    for member in made.members:
        labels = images.aligned(member.classes).labels
        said.append(Unseen(images.files, labels, member.judge(images.images, made.store_of(member, store))[0]))
    return said


def report(metrics: Mapping[str, Any]) -> list[str]:
    """Return the lines that tell what an ensemble is worth."""
    from tlkit.evaluation.votes import verdicts

    others = ", ".join(f"{name} {value:.3f}" for name, value in metrics["other_votes"].items())
    rows = metrics["members"]
    lines = [*_listed(rows), *verdicts(rows), f"other votes of the same members: {others}"]
    return [on_screen(line) for line in lines]


def _found(asked: str | list[str]) -> list[Path]:
    """Return finished runs: those that are named, and all below a folder that is none itself.

    Raises:
        UsageError: fewer than two.
    """
    found = find_runs([asked] if isinstance(asked, str) else asked)
    if len(found) < 2:
        raise UsageError(
            f"runs={asked}: {len(found)} finished run; an ensemble takes two at least: tlkit ensemble RUN RUN."
        )
    return found


def _names(folders: Sequence[Path]) -> list[str]:
    """Call runs by the parts of their paths that differ."""
    parts = [folder.absolute().parts for folder in folders]
    shared = 0
    while all(len(own) > shared + 1 for own in parts) and len({own[shared] for own in parts}) == 1:
        shared += 1
    return ["/".join(own[shared:]) for own in parts]


def _origin(folders: Sequence[Path], names: Sequence[str]) -> dict[str, Any] | None:
    """Return where the images of all runs came from; warn of several places, for images go together by their names."""
    origins = [origin(folder) for folder in folders]
    known = [(name, found) for name, found in zip(names, origins, strict=True) if found]
    if any(found != known[0][1] for _, found in known):
        places = some(f"{name} {words(data={'name': found['name'], **found['source']})}" for name, found in known)
        log.warning(
            "warning: the images of the members come from several places, and those of one name are taken for the "
            "same image: %s",
            places,
        )
        return None
    return origins[0] if len(known) == len(origins) else None


def _member(folder: Path) -> Member:
    from tlkit.ensembles.ensemble import load_classifier

    classifier = load_classifier(folder / MODEL)
    return replace(classifier, unseen=results.read_probabilities(folder, classifier.classes, "unseen"))


def _held_out(folder: Path, member: Member) -> Unseen:
    found = results.read_probabilities(folder, member.classes, "held out")
    if found is None:
        raise TlkitError(f"{folder}: it held no images out, so nothing tells what it is worth. Give it a test split.")
    return found


def _costs(made: Ensemble, store: CodesStore) -> list[float]:
    """Return images a second of each member's networks, and of all networks one after the other, without decoding."""
    from tlkit.codes.speed import images_per_second
    from tlkit.ensembles.ensemble import networks

    seconds: dict[str, float] = {}
    with progress("timing the networks"):
        for key, (classifier, taps) in networks(made.members).items():
            seconds[key] = 1 / images_per_second(store.like(classifier.recipe), classifier.backbone, taps)
    each = [sum(seconds[key] for key in networks([member])) for member in made.members]
    return [1 / spent for spent in (*each, sum(seconds.values()))]


def _other_votes(made: Ensemble, each: Matrix, labels: Labels, seed: int) -> dict[str, float]:
    """Return the accuracy of every other vote of the same members, as far as there is enough to fit it on."""
    from tlkit.ensembles.making import make_ensemble

    found = {}
    for voting in VOTINGS:
        if voting != made.voting:
            with suppress(TlkitError):
                other = make_ensemble(made.members, made.names, cast("Voting", voting), seed)
                found[voting] = float((other.vote(each).argmax(axis=1) == labels).mean())
    return found


def _listed(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    width = max(len("ensemble"), *(len(row["name"]) for row in rows))
    lines = ["", f"{'':{width}}  accuracy  95 % interval   log loss  weight  images/s"]
    for row in rows:
        weight = "" if row["weight"] is None else f"{row['weight']:.2f}"
        lines.append(
            f"{row['name']:{width}}  {row['accuracy']:8.3f}  {row['low']:.3f} to {row['high']:.3f}"
            f"  {row['log_loss']:8.3f}  {weight:>6}  {row['images_per_second']:8.0f}"
        )
    return lines
