"""What a comparison says, as tables: for files, for a terminal, and in Markdown."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any

from tlkit.comparison.pairs import TIE, Pair
from tlkit.comparison.pictures import clock

if TYPE_CHECKING:
    import pandas as pd

    from tlkit.comparison.finished import Finished

Rows = list[list[str]]

REACHED = ("#", "run", "images", "accuracy", "95 %", "balanced", "log loss", "ECE")
BOARD = (*REACHED, "what", "params", "mult-adds", "time")
PAIRS = ("pair", "images", "only 1st", "only 2nd", "difference", "95 %", "p", "p (Holm)", "verdict")
NOTE = (
    "p: McNemar's exact test on the images that both held out; p (Holm) is corrected for all pairs and decides. "
    "Intervals: Wilson's of an accuracy, the paired bootstrap's of a difference, each for itself."
)
STARRED = "* all codes were there already: the time is without them."


def leaderboard(parted: Sequence[Sequence[Finished]]) -> pd.DataFrame:
    """Return a row for each run, in order: its group, what it is, what it reached and what it cost."""
    import pandas as pd

    rows = [_record(run, number) for number, runs in enumerate(parted, 1) for run in runs]
    return pd.DataFrame(rows).astype(dict.fromkeys(("params", "macs", "forwards"), "Int64"))


def comparisons(pairs: Sequence[Pair]) -> pd.DataFrame:
    """Return a row for each pair; the columns are the fields of `Pair`."""
    import pandas as pd

    table = pd.DataFrame([asdict(pair) for pair in pairs], columns=[field.name for field in fields(Pair)])
    return table.astype(dict.fromkeys(("only_first", "only_second"), "Int64"))


def board_rows(runs: Sequence[Finished], first: int) -> Rows:
    """Return the cells of `BOARD` for the runs of a group, numbered from `first`."""
    return [_cells(run, number) for number, run in enumerate(runs, first)]


def pair_rows(pairs: Sequence[Pair], numbers: Mapping[str, int]) -> Rows:
    """Return the cells of `PAIRS`; runs are called by their number."""
    rows = []
    for pair in pairs:
        a, b = numbers[pair.first], numbers[pair.second]
        if pair.difference is None or pair.low is None or pair.high is None:
            rows.append([f"{a} - {b}", str(pair.shared), "", "", "", "", "", "", pair.verdict])
            continue
        better = a if pair.difference > 0 else b
        rows.append(
            [
                f"{a} - {b}",
                f"{pair.shared:,}",
                str(pair.only_first),
                str(pair.only_second),
                f"{pair.difference:+.3f}",
                f"{pair.low:+.3f} to {pair.high:+.3f}",
                _p(pair.p),
                _p(pair.p_holm),
                TIE if pair.verdict == TIE else f"{better} is better",
            ]
        )
    return rows


def conclusion(runs: Sequence[Finished], pairs: Sequence[Pair], numbers: Mapping[str, int]) -> str:
    """Say which run of a group came out best, and from which ones, by their numbers, it cannot be told."""
    best = runs[0]
    own = {pair.second: pair for pair in pairs if pair.first == best.name}
    said = f"highest accuracy: {numbers[best.name]} ({best.name}), {best.measured['accuracy']:.3f}"
    if len(runs) == 1:
        return f"{said}; there is no other run to compare it with"
    better = [pair for pair in own.values() if pair.p_holm is not None and pair.verdict != TIE]
    ties = [str(numbers[name]) for name, pair in own.items() if pair.verdict == TIE]
    unknown = len(own) - len(better) - len(ties)
    parts = [
        f"{TIE} from {', '.join(ties)}" if ties else "",
        f"told apart from {len(better)} of {len(own)}" if better else "",
        f"not compared with {unknown}" if unknown else "",
    ]
    return "; ".join([said, *filter(None, parts)])


def tied(runs: Sequence[Finished], pairs: Sequence[Pair]) -> list[bool]:
    """Tell which runs of a group are the first one, or cannot be told from it."""
    ties = {pair.second for pair in pairs if pair.first == runs[0].name and pair.verdict == TIE}
    return [run is runs[0] or run.name in ties for run in runs]


def what(run: Finished) -> str:
    """Say what a run is: backbone, strategy, head and taps."""
    return " ".join(filter(None, [run.backbone, run.strategy, run.head, "+".join(run.taps)]))


def short_names(runs: Sequence[Finished]) -> list[str]:
    """Name runs by what they are, if that tells them apart, else by their folders."""
    told = [what(run) for run in runs]
    return told if len({*told}) == len(told) else [run.name for run in runs]


def markdown(titles: Sequence[str], rows: Rows) -> str:
    """Write a table in Markdown, whatever is in its cells."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(map(plain, line))} |" for line in lines)


def plain(text: str) -> str:
    r"""Write a name in Markdown so that it stays a name.

    >>> plain("a|b <i>*c*")
    'a\\|b &lt;i&gt;\\*c\\*'
    """
    line = "".join(letter if letter.isprintable() else "?" for letter in text)
    return "".join(f"\\{letter}" if letter in "\\|*_`[]" else letter for letter in html.escape(line, quote=False))


def _record(run: Finished, group: int) -> dict[str, Any]:
    measured = dict(run.measured)
    low, high = measured.pop("accuracy_interval")
    return {
        "group": group,
        "run": run.name,
        "backbone": run.backbone,
        "strategy": run.strategy,
        "head": run.head,
        "taps": "+".join(run.taps),
        "n": measured.pop("n"),
        "accuracy": measured.pop("accuracy"),
        "accuracy_low": low,
        "accuracy_high": high,
        **measured,
        "params": run.params,
        "macs": run.macs,
        "seconds": run.seconds,
        "forwards": run.forwards,
        "path": str(run.path),
    }


def _cells(run: Finished, number: int) -> list[str]:
    measured = run.measured
    low, high = measured["accuracy_interval"]
    return [
        str(number),
        run.name,
        f"{measured['n']:,}",
        f"{measured['accuracy']:.3f}",
        f"{low:.3f} to {high:.3f}",
        *(f"{measured[key]:.3f}" for key in ("balanced_accuracy", "log_loss", "ece")),
        what(run),
        _large(run.params),
        _large(run.macs),
        "?" if run.seconds is None else clock(run.seconds) + ("*" if run.forwards == 0 else ""),
    ]


def _large(number: int | None) -> str:
    """Write a large number.

    >>> _large(1_263_032), _large(300_774_272), _large(15_470_264_320), _large(None)
    ('1.26 M', '301 M', '15.5 G', '?')
    """
    if number is None:
        return "?"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{f'{number / size:#.3g}'.rstrip('.')} {unit}"
    return str(number)


def _p(value: float | None) -> str:
    return "" if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
