"""Weights of networks that timm does not have: from torchvision's downloads, or from one safetensors file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlkit.backbones.contract import Weights
from tlkit.backbones.weights import FILE, fit_classifier, load_weights, read_tensors, state_digest
from tlkit.errors import TlkitError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn


def fill(module: nn.Module, name: str, weights: str | None, published: str | None) -> Weights | None:
    """Load weights into a network, every number of it, and say where they are from.

    Args:
        module: The network; a file with another number of classes changes its classifier.
        name: What errors call it.
        weights: "pretrained", the path of a .safetensors file or of a folder that holds model.safetensors, or None.
        published: torchvision's name for the network, if "pretrained" means torchvision's weights.

    Raises:
        UsageError: `weights` is none of these.
        TlkitError: there are none to be had, or they are not this network's.
    """
    if weights is None:
        return None
    if weights == "pretrained":
        if published is None:
            raise TlkitError(
                f"no weights are published for {name}. Give your own, backbone.weights=FILE.safetensors; or "
                "backbone.weights=null to start from random ones, with strategy=scratch."
            )
        url, tensors = fetch_torchvision(published)
        load_weights(module, tensors, f"torchvision/{published}")
        return _record(module, f"torchvision/{published}", url)
    path = Path(weights).expanduser()
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise UsageError(
            f"backbone.weights={weights}: no such file, or a folder without {FILE}. It is a .safetensors file, "
            + ("'pretrained', " if published else "")
            + "or null for random ones."
        )
    tensors = read_tensors(file)
    fit_classifier(module, tensors)
    load_weights(module, tensors, weights)
    return _record(module, weights, None)


def fetch_torchvision(architecture: str, url: str | None = None) -> tuple[str, dict[str, Tensor]]:
    """Return the address of torchvision's default weights of a network, and the tensors, downloaded if need be.

    torchvision publishes pickles only. Two things make this one safe to read: its address, with the beginning of its
    sha256, is part of the installed torchvision and is checked, and torch reads tensors and nothing else from it.

    Args:
        architecture: torchvision's name.
        url: Another address of the same file, such as a mirror's.

    Raises:
        TlkitError: they cannot be had.
    """
    import torch
    from torchvision.models import get_model_weights

    address: str = url or get_model_weights(architecture).DEFAULT.url
    try:
        tensors: dict[str, Tensor] = torch.hub.load_state_dict_from_url(
            address, map_location="cpu", check_hash=True, weights_only=True, progress=False
        )
    except Exception as err:  # whatever stands between here and the file, the way out is the same
        file = Path(torch.hub.get_dir(), "checkpoints", address.rpartition("/")[2])
        raise TlkitError(
            f"the weights of torchvision/{architecture} cannot be had: {str(err).splitlines()[0].rstrip('.')}.\n"
            f"Where there is a network, fetch {address}\nand bring it to {file} on this machine; or give your own, "
            "backbone.weights=FILE.safetensors."
        ) from err
    return address, tensors


def _record(module: nn.Module, source: str, url: str | None) -> Weights:
    model: Any = module
    names = None
    if url is not None:
        from timm.data.imagenet_info import ImageNetInfo

        names = tuple(ImageNetInfo("imagenet-1k").label_descriptions())
    return Weights(
        source=source,
        sha256=state_digest(module),
        num_classes=int(model.num_classes),
        license="bsd-3-clause" if url else None,
        url=url,
        dataset="ImageNet-1k" if url else None,
        class_names=names,
    )
