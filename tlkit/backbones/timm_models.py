"""Networks of timm with their weights: from the hub, from a folder in the hub's layout, or from one file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import get_ident
from typing import TYPE_CHECKING, Any

from tlkit.backbones.contract import Weights
from tlkit.backbones.hub import fetch_published, published_config
from tlkit.backbones.weights import CONFIG, FILE, fit_classifier, load_weights, read_tensors, safe_file, state_digest
from tlkit.errors import TlkitError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

_DATASETS = {"in1k": "ImageNet-1k", "in12k": "ImageNet-12k", "in21k": "ImageNet-21k", "in22k": "ImageNet-22k"}


@dataclass(frozen=True)
class _Source:
    """Weights that were found.

    Attributes:
        label: What errors and records call them.
        model: What `timm.create_model` is asked for.
        file: The safetensors file.
        described: Whether a description, with the number of classes, comes with the file.
        url: Where they were published.
    """

    label: str
    model: str
    file: Path
    described: bool
    url: str | None = None


def timm_model(
    architecture: str, weights: str | None, model_args: Mapping[str, Any]
) -> tuple[nn.Module, Weights | None]:
    """Build a network of timm with its original classifier, and load its weights.

    Args:
        architecture: A name of timm's, with or without the tag of published weights.
        weights: "pretrained" (the published ones), the path of a folder in the hub's layout, the path of a
            .safetensors file, or None for random ones.
        model_args: Passed on to timm.

    Raises:
        UsageError: no such architecture, or `weights` is none of these.
        TlkitError: the weights cannot be had, or are not this network's.
    """
    import timm

    published_config(architecture)
    if weights is None:
        return timm.create_model(architecture, **model_args), None
    source = _find(architecture, weights)
    module, tensors, loose = _build(source, model_args)
    if not source.described:
        fit_classifier(module, tensors)
    load_weights(module, tensors, source.label, loose=loose)
    return module, _record(module, source)


def _find(architecture: str, weights: str) -> _Source:
    if weights == "pretrained":
        repository, file = fetch_published(architecture)
        return _Source(repository, architecture, file, described=True, url=f"https://huggingface.co/{repository}")
    path = Path(weights).expanduser()
    if path.name == FILE and path.with_name(CONFIG).is_file():
        path = path.parent  # padding and preprocess are in the config.json beside it
    if path.is_dir():
        file = _only_safe(path)
        _check_architecture(path / CONFIG, architecture)
        return _Source(weights, f"local-dir:{path}", file, described=True)
    if path.is_file():
        return _Source(weights, architecture, safe_file(path), described=False)
    raise UsageError(
        f"backbone.weights={weights}: no such file or folder. It is 'pretrained', a folder with {CONFIG} and {FILE}, "
        "a .safetensors file, or null. A tag of published weights is part of the name: backbone=timm/resnet50.a1_in1k."
    )


def _only_safe(folder: Path) -> Path:
    if (folder / FILE).is_file():
        return folder / FILE
    others = sorted(path.name for path in folder.iterdir() if path.suffix in {".bin", ".pth", ".pt", ".safetensors"})
    found = f", only {', '.join(others)}; pickles are never read" if others else ""
    raise TlkitError(f"{folder} has no {FILE}{found}. Fetch or convert the weights to {FILE}.")


def _check_architecture(config: Path, architecture: str) -> None:
    try:
        said = json.loads(config.read_text(encoding="utf-8"))["architecture"]
    except FileNotFoundError:
        raise TlkitError(
            f"{config.parent} has no {CONFIG}, so what network its weights are for is not known. Add the one that was "
            f"published with them, or give the file itself, backbone.weights={config.parent / FILE}."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as err:
        raise TlkitError(f'{config} is not a timm config.json with an "architecture": {err!r}.') from err
    wanted = architecture.partition(".")[0]
    if said != wanted:
        raise TlkitError(
            f"{config.parent} holds weights of {said!r}, but the backbone is {wanted!r}. Give weights of {wanted}, or "
            f"take backbone=timm/{said} backbone.weights={config.parent}."
        )


def _build(source: _Source, model_args: Mapping[str, Any]) -> tuple[nn.Module, dict[str, Tensor], bool]:
    """Build the network and read its tensors, renamed and reshaped as timm does it for this architecture.

    The last, loose or strict, step of loading is kept from timm, which does not tell what a loose one left out.
    """
    import timm

    read_tensors(source.file)
    overlay: dict[str, Any] = {"file": str(source.file), "source": None, "custom_load": False}
    if not source.described:
        overlay["label_offset"] = 0  # for original files with a background class; a user's own has none
    with _loading_kept() as kept:
        try:
            module = timm.create_model(source.model, pretrained=True, pretrained_cfg_overlay=overlay, **model_args)
        except Exception as err:  # timm's own readers of foreign names fail in many ways on a file of another network
            raise TlkitError(f"{source.label}: timm cannot use it for {source.model}: {err!r}.") from err
    tensors, strict = kept[-1]
    return module, tensors, not strict


@contextmanager
def _loading_kept() -> Iterator[list[tuple[dict[str, Tensor], bool]]]:
    """Collect (tensors, strict) of each load_state_dict of this thread instead of carrying it out."""
    from torch import nn

    kept: list[tuple[dict[str, Tensor], bool]] = []
    original = nn.Module.load_state_dict
    thread = get_ident()

    def keep(module: nn.Module, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> object:
        if get_ident() != thread:
            return original(module, state_dict, strict, assign)
        kept.append((dict(state_dict), strict))
        return original(nn.Module(), {})  # "nothing missing, nothing left over"

    nn.Module.load_state_dict = keep  # type: ignore[method-assign, assignment]
    try:
        yield kept
    finally:
        nn.Module.load_state_dict = original  # type: ignore[method-assign]


def _record(module: nn.Module, source: _Source) -> Weights:
    model: Any = module
    config: Mapping[str, Any] = model.pretrained_cfg if source.described else {}
    dataset = _dataset(str(config.get("tag") or ""))
    classes = int(model.num_classes)
    return Weights(
        source=source.label,
        sha256=state_digest(module),
        num_classes=classes,
        license=config.get("license"),
        url=source.url or config.get("origin_url"),
        dataset=dataset,
        class_names=_class_names(config, dataset, classes),
    )


def _dataset(tag: str) -> str | None:
    """What weights were trained on, as far as timm's tags tell.

    >>> _dataset("fb_in22k_ft_in1k_384"), _dataset("laion2b")
    ('ImageNet-22k, ImageNet-1k', None)
    """
    named = [_DATASETS[word] for word in tag.split("_") if word in _DATASETS]
    return ", ".join(dict.fromkeys(named)) or None


def _class_names(config: Mapping[str, Any], dataset: str | None, classes: int) -> tuple[str, ...] | None:
    from timm.data.imagenet_info import ImageNetInfo

    labels = config.get("label_names")
    if isinstance(labels, list | tuple) and len(labels) == classes:
        descriptions = config.get("label_descriptions") or {}
        return tuple(str(descriptions.get(label, label)) for label in labels)
    if classes == 1000 and dataset and dataset.endswith("ImageNet-1k"):
        return tuple(ImageNetInfo("imagenet-1k").label_descriptions())
    return None
