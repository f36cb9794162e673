"""`tlkit visualize`: what to draw, of which network and images, and where it goes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tlkit import runs
from tlkit.errors import TlkitError, UsageError
from tlkit.sources import build_backbone, lasting, prediction_store
from tlkit.visualize.pictures import Pictures, find_pictures

if TYPE_CHECKING:
    from tlkit.backbones import Backbone
    from tlkit.classifier import Classifier

What = Literal["filters", "deconvnet", "gradcam"]


def visualize(
    *,
    run: str | None = None,
    what: What | None = None,
    backbone: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    images: str | list[str] | None = None,
    split: Literal["train", "val", "test", "all"] | None = None,
    tap: str | None = None,
    maps: int | list[int] = 4,
    most: int = 24,
    out: str | None = None,
    weights: str | None = None,
    codes: dict[str, Any],
    cache: dict[str, Any],
    seed: int = 1,
) -> list[Path]:
    """Draw what a network has learned, and return the pictures.

    Args:
        run: a finished run: Grad-CAM and guided backprop of its classifier, wrong predictions first.
        what: "filters" of the first layer, "deconvnet" projections of maps, or "gradcam"; what the other settings
            suggest if None: gradcam of a run, deconvnet of a backbone with images, else filters.
        backbone: a network, in place of a run.
        data: labelled images; those of the run if None.
        images: in place of data: a folder, file, pattern or list.
        split: which of the data; of a run's own its held-out split, for deconvnet all of it.
        tap: the map; the last one that has space by default.
        maps: deconvnet: numbers of maps, or how many of the most active ones.
        most: gradcam: how many images at most.
        out: a new folder; RUN/visualize/… or visualize/BACKBONE/… if None.
        weights: where the run's weights are now, if not where they were.
        codes: settings of the frozen pass.
        cache: where codes are kept.
        seed: of random weights.

    Raises:
        UsageError: settings that make no sense together.
        TlkitError: no such run or images, or none of them can be read.
    """
    what = what or _suggested(run, tap, data or images)
    _check(what, run=run, backbone=backbone, data=data, images=images, split=split, tap=tap, weights=weights)
    if most < 1:
        raise UsageError(f"most={most}: give a positive number of images.")
    source = runs.find(run) if run else None
    classifier = _classifier(source, weights) if source else None
    data = data and {key: lasting(key, value) for key, value in data.items()}
    given = {"run": run, "backbone": backbone, "data": data, "images": images, "split": split}
    record = {**given, "what": what, "tap": tap, "maps": maps, "most": most, "codes": codes, "seed": seed}
    classes = classifier.classes if classifier and what == "gradcam" else None
    places = split or ("all" if what == "deconvnet" else None)
    pictures = None if what == "filters" else find_pictures(source, classes, data, images, places)
    network = classifier.backbone if classifier else build_backbone(backbone or {}, seed)
    with runs.directory(_folder(out, source, network.name, what), record) as folder:
        if pictures is None:
            paths = _filters(network, folder)
        elif classifier is None or what == "deconvnet":
            paths = _deconvnet(network, pictures, tap, maps, codes, cache, folder)
        else:
            paths = _gradcam(classifier, pictures, tap, most, codes, cache, folder)
    print("\n".join(f"results: {runs.short(path)}" for path in paths))
    return paths


def _classifier(run: Path, weights: str | None) -> Classifier:
    """Return the classifier of a run, which has to be a single network's."""
    from tlkit.classifier import Classifier
    from tlkit.ensembles.ensemble import RECORD

    if (run / runs.MODEL / RECORD).is_file():
        raise UsageError(f"run={run} is an ensemble, and a vote has no network of its own. Give the run of a member.")
    return Classifier.load(run / runs.MODEL, weights)


def _suggested(run: str | None, tap: str | None, images: object) -> What:
    if run:
        return "gradcam"
    return "deconvnet" if tap or images else "filters"


def _check(what: What, **given: Any) -> None:  # noqa: ANN401
    if bool(given["run"]) == bool(given["backbone"]):
        raise UsageError("visualize: give a finished run, run=RUN, or a network, backbone=NAME, and not both.")
    if given["data"] and given["images"]:
        raise UsageError("data and images: give one of them.")
    if given["weights"] and not given["run"]:
        raise UsageError("weights: says where those of a run are; for a backbone it is backbone.weights=PATH.")
    if what == "filters" and (idle := [key for key in ("data", "images", "split", "tap") if given[key]]):
        raise UsageError(f"{idle[0]}: what=filters draws weights and looks at no images. Leave it out.")
    if what == "gradcam" and not given["run"]:
        raise UsageError("what=gradcam: it needs a classifier, run=RUN. tlkit fit makes one.")
    if given["split"] and given["images"]:
        raise UsageError("split: images=… have none. Leave it out.")


def _folder(out: str | None, source: Path | None, name: str, what: What) -> Path:
    if out is not None:
        return Path(out)
    above = source / "visualize" if source else Path("visualize", name.replace("/", "-"))
    return above / f"{what}-{datetime.now():%Y%m%d-%H%M%S-%f}"


def _filters(network: Backbone, folder: Path) -> list[Path]:
    from tlkit import plots
    from tlkit.visualize import pages
    from tlkit.visualize.filters import first_layer

    filters = first_layer(network)
    print(filters.report())
    title = f"{network.name}{_random(network)}\n{filters.report()}"
    path = folder / "filters.png"
    plots.save(pages.filter_grid(filters.weights, filters.dead, title), path)
    return [path]


def _deconvnet(
    network: Backbone,
    pictures: Pictures,
    tap: str | None,
    maps: int | list[int],
    codes: Mapping[str, Any],
    cache: Mapping[str, Any],
    folder: Path,
) -> list[Path]:
    import pandas as pd

    from tlkit import plots, tables
    from tlkit.visualize import pages
    from tlkit.visualize.search import project_maps

    found = project_maps(network, pictures.images, tap, maps, codes, cache)
    pictures.tell_unreadable(found.errors)
    records = [{**row, "file": tables.printable(pictures.files[row["image"]])} for row in found.units]
    tables.write(pd.DataFrame(records).drop(columns="image"), folder / "deconvnet.csv")
    n = len(pictures.files) - len(found.errors)
    title = f"{network.name}{_random(network)}, tap {found.tap}: what its maps respond to most in {n:,} images"
    paths = []
    for start in range(0, len(found.panels), pages.MAPS):
        path = folder / f"deconvnet-{start // pages.MAPS + 1:02}.png"
        page = pages.projection_page(found.panels[start : start + pages.MAPS], title, found.caption)
        plots.save(page, path)
        paths.append(path)
    return paths


def _gradcam(
    classifier: Classifier,
    pictures: Pictures,
    tap: str | None,
    most: int,
    codes: Mapping[str, Any],
    cache: Mapping[str, Any],
    folder: Path,
) -> list[Path]:
    from tlkit import plots
    from tlkit.visualize import pages
    from tlkit.visualize.attribution import class_scores, map_taps
    from tlkit.visualize.evidence import evidence, ordered

    taps = map_taps(classifier, tap)
    class_scores(classifier)  # refuses, before any pass, a head without a gradient
    store = prediction_store(classifier, codes, cache)
    predictions = classifier.predict(pictures.images, files=pictures.files, store=store)
    pictures.tell_unreadable({row: why for row, why in enumerate(predictions["error"]) if why is not None})
    order = ordered(predictions, pictures.truths)
    if not order:
        raise TlkitError(f"not one of the {len(pictures.files)} images can be read.")
    if pictures.truths is not None:
        wrong = sum(predictions["predicted"][row] != pictures.truths[row] for row in order)
        print(
            f"{wrong} of {len(order)} predictions are wrong; {min(most, len(order))} images are drawn, wrong ones first"
        )
    paths = []
    for number, page in enumerate(
        evidence(classifier, pictures, predictions, order[:most], taps, codes.get("device", "auto"))
    ):
        path = folder / f"gradcam-{number + 1:02}.png"
        plots.save(pages.attribution_page(*page), path)
        paths.append(path)
    return paths


def _random(network: Backbone) -> str:
    return "" if network.weights else " (random weights)"
