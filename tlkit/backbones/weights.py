"""Weights: reading safetensors into a network, whole or not at all, and the fingerprint of what was read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlkit import files
from tlkit.backbones.stages import classifier_parameters
from tlkit.errors import TlkitError, some

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tlkit.backbones.contract import Backbone

CONFIG, FILE = "config.json", "model.safetensors"  # of a folder in timm's layout


def state_digest(module: nn.Module) -> str:
    """Return the sha256 hex of all parameters and buffers: names in order, dtypes, shapes and bytes."""
    import torch

    total = sha256()
    for name, tensor in sorted(module.state_dict().items()):
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        total.update(flat.view(torch.uint8).numpy())
    return total.hexdigest()


def safe_file(path: Path) -> Path:
    """Return the path if it is a safetensors file.

    Raises:
        TlkitError: it is of another kind, such as a pickle, which is never opened.
    """
    if path.suffix == ".safetensors":
        return path
    raise TlkitError(
        f"{path}: only .safetensors files are read; a {path.suffix or 'nameless'} file may be a pickle, which can run "
        "code. Convert it where you trust it: safetensors.torch.save_file(state_dict, 'model.safetensors')."
    )


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file, without the "module." that DistributedDataParallel puts before names.

    Raises:
        TlkitError: the file cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(safe_file(path))
    except (OSError, SafetensorError) as err:
        raise TlkitError(f"{path}: not a readable safetensors file: {err}") from err
    wrapped = all(name.startswith("module.") for name in tensors)
    return {name.removeprefix("module."): tensor for name, tensor in tensors.items()} if wrapped else tensors


def description(weights: str | None) -> Path | None:
    """Return the config.json that belongs to weights in timm's layout, given by their folder or their file."""
    if weights in (None, "pretrained"):
        return None
    path = Path(weights).expanduser()
    config = path / CONFIG if path.is_dir() else path.with_name(CONFIG)
    return config if config.is_file() and (path.is_dir() or path.name == FILE) else None


def save_network(backbone: Backbone, path: Path) -> None:
    """Write all numbers of a backbone to a safetensors file, and beside it the description it was built by, if any.

    Raises:
        TlkitError: they cannot be written.
    """
    from safetensors.torch import save

    if config := description(backbone.spec.get("weights")):
        files.write_bytes(path.with_name(CONFIG), config.read_bytes())
    files.write_bytes(path, save({name: t.contiguous() for name, t in backbone.module.state_dict().items()}))


def fit_classifier(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give the network as many classes as the tensors have rows for its classifier; none if they have no classifier.

    A classifier in which nothing is learned, such as LeNet-5's, stays.
    """
    model: Any = module
    learned = classifier_parameters(module)
    if not learned:
        return
    names = sorted(name for name in learned if name in tensors)
    matrices = [tensors[name] for name in names if tensors[name].ndim > 1]
    classes = len(matrices[0]) if matrices else 0
    if classes != model.num_classes:
        model.reset_classifier(classes)


def load_weights(module: nn.Module, tensors: Mapping[str, Tensor], source: str, *, loose: bool = False) -> None:
    """Copy tensors into a network, every one of which they must fill.

    Args:
        module: The network.
        tensors: By name, as in its state dict.
        source: Where they come from, for errors.
        loose: Ignore tensors that the network has no place for.

    Raises:
        TlkitError: tensors are missing, left over, or of another shape; the network is then of no use.
    """
    own = module.state_dict()
    unlike = [name for name, tensor in tensors.items() if name in own and tensor.shape != own[name].shape]
    if unlike:
        pairs = [f"{name} {tuple(tensors[name].shape)} for {tuple(own[name].shape)}" for name in unlike]
        raise TlkitError(
            f"{source}: {len(unlike)} of {len(tensors)} tensors have another shape than the network's: "
            f"{some(pairs, 3)}. They were made by another architecture, or with other settings."
        )
    report = module.load_state_dict(dict(tensors), strict=False)
    if report.missing_keys:
        raise TlkitError(_missing(source, report.missing_keys, tensors, own))
    if report.unexpected_keys and not loose:
        raise TlkitError(
            f"{source}: {len(report.unexpected_keys)} of {len(tensors)} tensors have no place in the network, such as "
            f"{some(report.unexpected_keys, 3)}. They were made by another architecture, or with other settings."
        )


def _missing(source: str, missing: list[str], found: Collection[str], wanted: Collection[str]) -> str:
    have = f"the file has {some(found, 3)}" if found else "the file is empty"
    return (
        f"{source}: {len(missing)} of the network's {len(wanted)} tensors are missing, such as {some(missing, 3)}; "
        f"{have}.{_guess(found, wanted)} Nothing is ever left at random."
    )


def _guess(found: Collection[str], wanted: Collection[str]) -> str:
    """Say what may be wrong with the names.

    >>> _guess(["encoder.a", "encoder.b"], ["a", "b", "c"])
    " Every name starts with 'encoder.', a wrong prefix: save the tensors without it."
    """
    prefixes = {name.partition(".")[0] + "." for name in found}
    if len(prefixes) == 1 and not any(name.startswith(tuple(prefixes)) for name in wanted):
        return f" Every name starts with {prefixes.pop()!r}, a wrong prefix: save the tensors without it."
    return "" if set(found) & set(wanted) else " No name is alike: is it the file of another architecture?"
