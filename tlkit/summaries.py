"""`tlkit summary`: a network as a table, one row a layer, and as a picture."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from tlkit import files
from tlkit.errors import UsageError
from tlkit.tables import csv_text, markdown, short

if TYPE_CHECKING:
    from tlkit.backbones.summary import Summary

PICTURES = (".png", ".svg", ".pdf")
SUFFIXES = (".txt", ".csv", ".json", ".md", *PICTURES)
_WIDE = 150  # columns from which every number is written out
_UNCUT = 1000
_PATH = 19  # letters of a path where there is little room


def summary(
    *, backbone: dict[str, Any], input_size: int | str | None = None, batch: int = 32, out: str | None = None
) -> Summary:
    """Print a network layer by layer, and write it to a file, or in every format to a folder.

    Args:
        backbone: Its settings; weights are not needed and not loaded.
        input_size: Side of the images, or "HEIGHTxWIDTH"; the backbone's own if not given.
        batch: Images for which memory is told.
        out: A file whose ending says the format, or a folder.

    Raises:
        UsageError: settings that make no sense.
        TlkitError: the network cannot take images of that size, or `out` cannot be written.
    """
    from tlkit.backbones.summary import summarize
    from tlkit.sources import without_weights

    check_out(out)
    if batch < 1:
        raise UsageError(f"batch={batch}: give the number of images, 1 or more.")
    sides = _sides(input_size)
    network = without_weights(backbone)
    channels = network.preprocess.input_size[0]
    measured = summarize(network, None if sides is None else (channels, *sides))
    show(measured, batch)
    if out is not None:
        for path in write(measured, batch, Path(out)):
            print(f"wrote {path}")
    return measured


def check_out(out: str | None) -> None:
    """Refuse a file whose ending says no known format."""
    suffix = Path(out).suffix.lower() if out is not None and not Path(out).is_dir() else ""
    if suffix and suffix not in SUFFIXES:
        raise UsageError(f"out={out}: give a folder, or a file that ends in {', '.join(SUFFIXES)}.")


def _sides(given: int | str | None) -> tuple[int, int] | None:
    """Read "224" or "HEIGHTxWIDTH".

    >>> _sides(64), _sides("160x192"), _sides(None)
    ((64, 64), (160, 192), None)
    """
    if given is None:
        return None
    words = str(given).lower().split("x")
    if len(words) > 2 or not all(word.isascii() and word.isdigit() and int(word) for word in words):
        raise UsageError(
            f"data.input_size={given}: give the side of the images in pixels, 224, or HEIGHTxWIDTH, 160x192."
        )
    return int(words[0]), int(words[-1])


def show(measured: Summary, batch: int, console: Console | None = None) -> None:
    """Print the table as wide as the terminal, and the totals; into a file or a pipe nothing is cut."""
    console = console or Console(width=None if sys.stdout.isatty() else _UNCUT)
    channels, height, width = measured.input_size
    console.print(f"{measured.backbone} on images of {height}x{width}x{channels}\n", markup=False, highlight=False)
    console.print(_wide(measured) if console.width >= _WIDE else _narrow(measured))
    for line in totals(measured, batch):
        console.print(line, markup=False, highlight=False)


def _wide(measured: Summary) -> Table:
    """One line a layer, every number written out; columns without a word in them are left out."""
    lines = rows(measured)
    columns = [key for key in lines[0] if any(line[key] is not None for line in lines)]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for key in columns:
        numeric = key not in ("layer", "kind", "taps", "stage")
        table.add_column(key, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    stage = None
    for line in lines:
        line["stage"], stage = line["stage"] if line["stage"] != stage else None, line["stage"]
        table.add_row(*(escape(f"{v:,}" if isinstance(v, int) else str(v or "")) for v in map(line.get, columns)))
    return table


def _narrow(measured: Summary) -> Table:
    """Two lines a layer: where it is, what it is; numbers of three digits."""
    learned = [name for name in ("weights", "biases", "other") if any(getattr(x, name) for x in measured.layers)]
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("layer", overflow="fold")
    for name in ("output", "values", *learned, "MACs", "field", "jump"):
        table.add_column(name, justify="right", no_wrap=True)
    stages: tuple[str, ...] = ()
    for layer, row in zip(measured.layers, rows(measured), strict=True):
        if layer.stages not in (stages, (), (layer.name,)):
            heading = escape(_tail(f"stage {row['stage']}"))
            table.add_row(f"[bold]{heading}[/bold]")
        stages = layer.stages
        kind, *follows = layer.kind.split(" + ")
        what = [_tail(layer.name), ", ".join([_worded(kind, row), *follows]), *(_tail(f"tap {x}") for x in layer.taps)]
        numbers = [layer.activations, *(getattr(layer, name) for name in learned), layer.macs]
        sees = [_one(layer.field) if isinstance(layer.field, tuple) else layer.field, row["jump"]]
        cells = [row["output"], *(short(n) if n else "" for n in numbers), *(text or "" for text in sees)]
        table.add_row(escape("\n".join(filter(None, what))), *cells)
    return table


def _tail(text: str) -> str:
    """Keep the end of a long path, which tells it from its neighbours."""
    return text if len(text) <= _PATH else f"…{text[1 - _PATH :]}"


def _worded(kind: str, row: Mapping[str, object]) -> str:
    if row["kernel"] is None:
        return kind
    padding = "" if row["padding"] in (None, "0") else f" p{row['padding']}"
    return f"{kind} {row['kernel']}/{row['stride']}{padding}"


def rows(measured: Summary) -> list[dict[str, Any]]:
    """Return the table as text and numbers; None is an empty cell."""
    return [
        {
            "layer": layer.name or None,
            "kind": layer.kind,
            "kernel": _by(layer.kernel),
            "stride": _one(layer.stride),
            "padding": _one(layer.padding),
            "output": _by(layer.output),
            "activations": layer.activations,
            "weights": layer.weights or None,
            "biases": layer.biases or None,
            "other": layer.other or None,
            "multiply-adds": layer.macs or None,
            "field": layer.field if isinstance(layer.field, str) else _by(layer.field),
            "jump": _one(layer.jump),
            "taps": " ".join(layer.taps) or None,
            "stage": ", ".join(layer.stages) or None,
        }
        for layer in measured.layers
    ]


def _by(sizes: tuple[int, ...] | None) -> str | None:
    return None if sizes is None else "x".join("all" if size >= 1e9 else str(size) for size in sizes)


def _one(sizes: tuple[int, ...] | None) -> str | None:
    """Write equal sizes once.

    >>> _one((2, 2)), _one((1, 0)), _one((0, 1, 0, 1))
    ('2', '1x0', '0-1')
    """
    if sizes is None:
        return None
    if len(set(sizes)) == 1:
        return str(sizes[0])
    if len(sizes) == 2:
        return _by(sizes)
    return f"{sizes[0]}x{sizes[2]}" if sizes[0] == sizes[1] and sizes[2] == sizes[3] else f"{min(sizes)}-{max(sizes)}"


def totals(measured: Summary, batch: int) -> Iterator[str]:
    """Yield lines that say what it adds up to, what is published about it, and what memory it takes."""
    parts = {name: sum(getattr(layer, name) for layer in measured.layers) for name in ("weights", "biases", "other")}
    learned = ", ".join(f"{n:,} {name}" for name, n in parts.items() if n)
    unused = f", {measured.unused:,} not used in a forward pass" if measured.unused else ""
    yield ""
    yield f"activations    {measured.activations:,} values for one image, {size(4 * measured.activations)} in float32"
    yield f"parameters     {measured.params:,} ({learned}{unused}), {size(4 * measured.params)} in float32"
    yield f"multiply-adds  {measured.macs:,} for one image"
    reference = measured.reference
    if reference is not None and (reference.params or reference.macs or reference.top1 or reference.top5):
        yield f"published      {claims(measured)}"
    yield (
        f"memory         {batch} images in float32: forward pass {size(measured.forward_bytes(batch))}, training step "
        f"{size(measured.training_bytes(batch))} (network, gradients, optimizer, what backward needs)"
    )
    yield "field: pixels that a value sees, image: all; jump: pixels between the fields of neighbours"


def claims(measured: Summary) -> str:
    """Say what the paper claims."""
    reference = measured.reference
    assert reference is not None
    figures = {"parameters": reference.params, "multiply-adds": reference.macs}
    told = [f"{short(value)} {name}" for name, value in figures.items() if value]
    errors = {"top-1": reference.top1, "top-5": reference.top5}
    told += [f"{name} error {100 - value:.4g} %" for name, value in errors.items() if value]
    note = f"; {reference.note}" if reference.note else ""
    return f"{', '.join(told)} ({reference.authors} {reference.year}{note})"


def size(n: float) -> str:
    """Write a number of bytes.

    >>> size(60_950_432), size(1728)
    ('61 MB', '1.73 KB')
    """
    return f"{short(n)}B" if n >= 999.5 else f"{n:g} B"


def write(measured: Summary, batch: int, out: Path) -> list[Path]:
    """Write one file, or every format to a folder, and return what was written.

    Raises:
        TlkitError: it cannot be written there.
    """
    from tlkit import diagrams, plots

    whole = out.is_dir() or not out.suffix
    paths = [out / name for name in (*(f"summary{end}" for end in SUFFIXES[:4]), "network.png")] if whole else [out]
    for path in paths:
        if path.suffix.lower() in PICTURES:
            plots.save(diagrams.network(measured), path)
        else:
            files.write_text(path, _text(measured, batch, path.suffix.lower()))
    return paths


def _text(measured: Summary, batch: int, suffix: str) -> str:
    if suffix == ".csv":
        return csv_text(rows(measured))
    if suffix == ".md":
        lines = "".join(f"- {line}\n" for line in totals(measured, batch) if line)
        return f"# {measured.backbone}\n\n{markdown(rows(measured))}\n{lines}"
    if suffix == ".json":
        return json.dumps(_record(measured, batch), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    text = StringIO()
    show(measured, batch, Console(file=text, width=200))
    return text.getvalue()


def _record(measured: Summary, batch: int) -> dict[str, Any]:
    record = asdict(measured)
    memory = {"batch": batch, "forward": measured.forward_bytes(batch), "training": measured.training_bytes(batch)}
    sums = {"params": measured.params, "macs": measured.macs, "activations": measured.activations}
    return {**record, **sums, "memory_bytes": memory}
