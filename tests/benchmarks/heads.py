"""The linear SVM against GridSearchCV(LinearSVC): `python tests/benchmarks/heads.py [--small] [--case NAME ...]`.

Both sides are timed in one run, on the same codes. Ours is whole: every value of C in every fold, the accuracies, the
calibration and the final fit; of a million rows it is the path of one fold, multiplied. LinearSVC takes too long for
that: single cells (one fit, one C, one fold, its default settings, standardised float64 codes already made) are timed
in a process of their own with a time limit, and multiplied; the output says which. A cell that reaches the limit counts
as the limit, so that the ratio is too low.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Matrix = NDArray[Any]
    Labels = NDArray[np.int64]

FOLDS = 5


@dataclass(frozen=True)
class Case:
    """n codes of d dimensions and k classes; a reference fit sees `cell_rows` rows and `cell_classes` classes."""

    n: int
    d: int
    k: int
    cell_rows: int = 0
    cell_classes: int = 0
    streamed: bool = False


CASES = {
    "flowers": Case(2_040, 4_096, 102),
    "pets": Case(6_149, 2_048, 102, cell_rows=6_149, cell_classes=3),
    "fifty_thousand": Case(50_000, 1_280, 10, cell_rows=50_000, cell_classes=2),
    "million": Case(1_000_000, 512, 100, cell_rows=50_000, cell_classes=2, streamed=True),
}
SMALL = {
    "flowers": Case(408, 1_024, 20),
    "pets": Case(1_200, 400, 20),
    "fifty_thousand": Case(12_000, 64, 10),
    "million": Case(60_000, 64, 20, cell_rows=10_000, cell_classes=2, streamed=True),
}


def codes_file(case: Case, folder: Path) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return codes like pooled activations after a ReLU, as a memory map, and their labels.

    They are not negative, more than half of them are 0, their spectrum has a long tail, classes are clusters that
    overlap, and scales differ between columns.
    """
    random, hidden = np.random.default_rng(0), 200
    strength = ((1 + np.arange(hidden)) ** -0.5).astype(np.float32)
    centres = 0.42 * random.normal(size=(case.k, hidden)).astype(np.float32) * strength
    mixing = random.normal(size=(hidden, case.d)).astype(np.float32) / np.linalg.norm(strength)
    threshold, gain = random.normal(0.3, 0.5, case.d), random.lognormal(0, 0.5, case.d)
    labels = random.permutation(np.arange(case.n) % case.k)
    shape = (case.n, case.d)
    codes = np.memmap(folder / "codes", dtype=np.float32, mode="w+", shape=shape)
    for start in range(0, case.n, 10_000):
        own = centres[labels[start : start + 10_000]]
        own = own + random.standard_normal(own.shape, dtype=np.float32) * strength
        active = own @ mixing + 0.4 * random.standard_normal((len(own), case.d), dtype=np.float32)
        codes[start : start + 10_000] = np.maximum(active - threshold, 0) * gain
    codes.flush()
    return np.memmap(folder / "codes", dtype=np.float32, mode="r", shape=shape), labels


def grid(d: int) -> list[float]:
    """Return eight powers of ten around one over the mean squared length of standardised codes."""
    middle = -round(float(np.log10(d)))
    return [float(f"1e{power}") for power in range(middle - 3, middle + 5)]


def objective(data: Matrix, labels: Labels, coef: Matrix, intercept: Matrix, C: float) -> float:
    """Return the sum over the classes of LinearSVC's objective, float64."""
    signs = np.where(labels[:, None] == np.arange(len(coef)), 1.0, -1.0)
    slack = np.maximum(0, 1 - signs * (data @ coef.T + intercept))
    return float((np.square(coef).sum() + np.square(intercept).sum()) / 2 + C * np.square(slack).sum())


def reference_cell(file: str, C: float) -> None:
    """Fit LinearSVC once, and print seconds and objective as JSON: what the child process does."""
    from sklearn.svm import LinearSVC

    with np.load(file) as stored:
        data, labels = stored["data"].astype(np.float64), stored["labels"]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.perf_counter()
        svm = LinearSVC(C=C, random_state=0).fit(data, labels)
        seconds = time.perf_counter() - start
    coef, intercept = svm.coef_, svm.intercept_
    if len(coef) == 1:
        coef, intercept = np.vstack([-coef, coef]), np.concatenate([-intercept, intercept])
    value = objective(data, labels, coef, intercept, C)
    print(json.dumps({"seconds": seconds, "objective": value, "converged": not caught}))


def timed_cell(file: Path, C: float, limit: float) -> dict[str, Any]:
    """Run a cell in a process of its own; without an objective if it takes longer than `limit` seconds."""
    command = [sys.executable, __file__, "--cell", str(file), repr(C)]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=limit + 30, text=True)
    except subprocess.TimeoutExpired:
        return {"seconds": limit, "objective": None, "converged": False}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class Memory:
    """The largest private memory (RssAnon) while it is entered, in MB; pages of mapped files are not counted."""

    def __enter__(self) -> Memory:
        self.peak, self._over = 0.0, threading.Event()
        self.before = self._now()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.peak = max(self.peak, self._now())

    def _now(self) -> float:
        status = Path("/proc/self/status")
        if not status.exists():  # not Linux
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("RssAnon")]
        return int(line.split()[1]) / 1024


def ours(case: Case, codes: Matrix, labels: Labels, values: Sequence[float]) -> float:
    """Fit our head as a user would, print what it says, and return the seconds it took."""
    from tlkit.heads import LinearSVM

    table = np.array(codes)
    head = LinearSVM(C=list(values), scale="standard", class_weight=None, cv=FOLDS)
    with Memory() as memory:
        start, cpu = time.perf_counter(), time.process_time()
        head.fit(table, labels)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    print(f"  ours, whole: {seconds:.2f} s wall, {cpu:.2f} s of processor time, memory {memory.before:.0f} MB before,")
    print(f"    {memory.peak:.0f} MB at most; chosen C {head.C_:g}, accuracy out of fold {head.cv_accuracy_:.3f}")
    print(f"    accuracy by C: {' '.join(f'{value:.3f}' for value in head.cv_results_['accuracy'])}")
    print(f"    convergence: {head.convergence_}")
    return seconds


def one_fold(case: Case, codes: Matrix, labels: Labels, values: Sequence[float]) -> float:
    """Solve the path of one fold, streamed, print what it took, and return seconds for all folds and the final fit."""
    from tlkit.heads.linear import fit_paths
    from tlkit.heads.selection import make_folds

    rows = make_folds(labels, None, FOLDS, 0)[0][0]
    problem: dict[str, Any] = {"loss": "squared_hinge", "standard": True, "weights": np.ones(case.k)}
    with Memory() as memory:
        start, cpu = time.perf_counter(), time.process_time()
        (path,) = fit_paths(codes, labels, case.k, values, **problem, subsets=[rows], stream=True)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    whole = seconds * (FOLDS + 1.25)
    print(f"  ours, one of {FOLDS} folds, streamed: {seconds:.2f} s wall, {cpu:.2f} s of processor time, memory")
    print(
        f"    {memory.before:.0f} MB before, {memory.peak:.0f} MB at most; times {FOLDS + 1.25} for all: {whole:.0f} s"
    )
    for C, record in zip(values, path.convergence, strict=True):
        print(f"    C {C:g}: {record}")
    return whole


def cell_data(case: Case, codes: Matrix, labels: Labels) -> tuple[Matrix, Labels, float]:
    """Return the rows of one fold's training part that a reference fit sees, and how many times as much all is."""
    from tlkit.heads.selection import make_folds

    rows = make_folds(labels, None, FOLDS, 0)[0][0]
    whole = len(rows) * case.k
    if case.cell_classes:
        # Some classes against each other and the rest would be another problem: those, and "any other".
        rows = rows[: case.cell_rows]
    classes = case.cell_classes or case.k
    data, own = np.array(codes[rows]) if not case.streamed else np.stack([codes[row] for row in rows]), labels[rows]
    if case.cell_classes:
        own = np.minimum(own, case.cell_classes)
        classes += 1
    data = (data - data.mean(axis=0)) / np.maximum(data.std(axis=0), 1e-12)
    return data.astype(np.float32), own, whole / (len(rows) * classes)


def reference(
    case: Case,
    codes: Matrix,
    labels: Labels,
    values: Sequence[float],
    timed: Sequence[float],
    limit: float,
    folder: Path,
) -> float:
    """Time cells of LinearSVC, print them beside our objective on the same data, return seconds for everything."""
    from tlkit.heads.linear import fit_paths

    data, own, factor = cell_data(case, codes, labels)
    file = folder / "cell.npz"
    np.savez(file, data=data, labels=own)
    k = int(own.max()) + 1
    everything = np.arange(len(own))
    (path,) = fit_paths(
        data, own, k, values, loss="squared_hinge", standard=False, weights=np.ones(k), subsets=[everything]
    )
    print(f"  LinearSVC, one cell ({len(own)} rows, {k} classes, standardised), times {factor:.1f} for a fold:")
    seconds = {}
    for C in timed:
        cell = timed_cell(file, C, limit)
        seconds[C] = cell["seconds"]
        affine, record = path.maps[values.index(C)], path.convergence[values.index(C)]
        found = objective(data.astype(float), own, affine.coef.astype(float), affine.intercept.astype(float), C)
        if cell["objective"] is None:
            print(f"    C {C:g}: stopped at the limit of {limit:g} s | ours {found:.6g} {record}")
            continue
        warned = "" if cell["converged"] else " (did not converge, it says)"
        print(
            f"    C {C:g}: {cell['seconds']:.2f} s, objective {cell['objective']:.6g}{warned}"
            f" | ours {found:.6g}, relative {found / cell['objective'] - 1:+.1e}, {record}"
        )
    nearest = [seconds[min(timed, key=lambda other: abs(np.log(other / C)))] for C in values]
    print(
        f"    cells at other C count as the nearest timed one; {FOLDS} folds, and one more fit of all rows (1.25 cells)"
    )
    whole: float = factor * (FOLDS * sum(nearest) + 1.25 * nearest[len(nearest) // 2])
    return whole


def run(name: str, case: Case, limit: float, cells: int) -> None:
    """Run one case and print both sides."""
    print(f"{name}: {case.n} x {case.d}, {case.k} classes, 8 values of C, {FOLDS} folds and the final fit", flush=True)
    values = grid(case.d)
    timed = [values[number] for number in np.linspace(0, len(values) - 1, cells).round().astype(int)]
    with tempfile.TemporaryDirectory() as folder:
        codes, labels = codes_file(case, Path(folder))
        mine = (one_fold if case.streamed else ours)(case, codes, labels, values)
        theirs = reference(case, codes, labels, values, timed, limit, Path(folder))
    print(f"  GridSearchCV(LinearSVC), multiplied: {theirs:.0f} s; ours {mine:.2f} s; ratio {theirs / mine:.0f}\n")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="reduced sizes, seconds instead of an hour")
    parser.add_argument("--case", action="append", choices=sorted(CASES), help="only this one; may be repeated")
    parser.add_argument("--limit", type=float, default=600, help="seconds for one fit of LinearSVC")
    parser.add_argument("--cells", type=int, default=4, help="how many values of C LinearSVC is timed at")
    parser.add_argument("--cell", nargs=2, metavar=("FILE", "C"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.cell:
        reference_cell(options.cell[0], float(options.cell[1]))
        return
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    for name in options.case or CASES:
        run(name, (SMALL if options.small else CASES)[name], options.limit, options.cells)


if __name__ == "__main__":
    main()
