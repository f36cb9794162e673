"""Engines: what runs a frozen network; the same codes from each, up to a relative error of 1e-4 at float32."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from tlkit.backbones.taps import POOLINGS, Pooling
from tlkit.codes.engines.digests import structure_digest
from tlkit.codes.engines.engine import Engine, is_out_of_memory, processors
from tlkit.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from tlkit.backbones import Backbone

__all__ = [
    "Engine",
    "EngineName",
    "Precision",
    "check_settings",
    "engine_version",
    "is_out_of_memory",
    "make_engine",
    "processors",
    "structure_digest",
]

EngineName = Literal["auto", "openvino", "torch"]
Precision = Literal["float32", "bf16", "float16"]

_CHOICES = {"engine": get_args(EngineName), "precision": get_args(Precision), "pooling": POOLINGS}
log = logging.getLogger(__name__)


def make_engine(
    backbone: Backbone,
    taps: Sequence[str],
    *,
    engine: EngineName = "auto",
    precision: Precision = "float32",
    pooling: Pooling = "avg",
    batch_size: int | None = None,
    device: str = "auto",
    images: int = 0,
    cache: Path | None = None,
) -> Engine:
    """Make the engine that runs a backbone, frozen and in eval mode, up to the deepest of some taps.

    The backbone's module is copied, so it neither changes nor may it be changed to any effect.

    Args:
        backbone: The network; its own preprocess normalises the pixels.
        taps: Names of its taps.
        engine: "auto" takes OpenVINO on a CPU where it is installed, and torch otherwise.
        precision: Of the arithmetic; codes are always float32.
        pooling: How a map, or its tokens, become one vector.
        batch_size: Images of a pass; what is fast there if None.
        device: A torch device, or "auto": a GPU if there is one.
        images: How many will come; compiling on a GPU pays only for many.
        cache: A folder for converted networks; None converts each time.

    Raises:
        UsageError: the backbone has no such tap, or `check_settings` refuses.
    """
    place = check_settings(engine=engine, precision=precision, pooling=pooling, batch_size=batch_size, device=device)
    wanted = [backbone.tap(name) for name in taps]
    if _chosen(engine, place) == "openvino":
        from tlkit.codes.engines.networks import NotConvertible

        try:
            from tlkit.codes.engines.openvino import openvino_engine

            label = _label("openvino", precision, place)
            return openvino_engine(backbone, wanted, precision, pooling, batch_size, cache, label)
        except (NotConvertible, ImportError) as err:  # or it is installed, but does not work here
            log.warning("%s runs in torch, which is slower: %s", backbone.name, err)
    from tlkit.codes.engines.torch import torch_engine

    label = _label("torch", precision, place)
    return torch_engine(backbone, wanted, precision, pooling, batch_size, place, images, label)


def check_settings(
    *,
    engine: str = "auto",
    precision: str = "float32",
    pooling: str = "avg",
    batch_size: int | None = None,
    device: str = "auto",
) -> str:
    """Check the settings of `make_engine`, and return the torch device that they mean.

    Raises:
        UsageError: unknown or impossible here.
    """
    for key, value in {"engine": engine, "precision": precision, "pooling": pooling}.items():
        if value not in _CHOICES[key]:
            hint = did_you_mean(value, _CHOICES[key])
            raise UsageError(f"codes.{key}={value}: not one of {', '.join(_CHOICES[key])}.{hint}")
    if batch_size is not None and batch_size < 1:
        raise UsageError(f"codes.batch_size={batch_size}: give a positive number, or null.")
    if engine == "openvino" and not _has_openvino():
        raise UsageError("codes.engine=openvino: it is not installed. Run pip install openvino, or take torch.")
    place = "cpu" if engine == "openvino" and device == "auto" else _device(device)
    if engine == "openvino" and place != "cpu":
        raise UsageError(f"codes.device={device}: codes.engine=openvino runs on the CPU only. Take codes.engine=torch.")
    if precision == "float16" and _chosen(engine, place) == "openvino":
        raise UsageError(
            "codes.precision=float16: OpenVINO on a CPU has float32 and bf16. Take one of these, or codes.engine=torch."
        )
    return place


def engine_version(*, engine: str = "auto", precision: str = "float32", device: str = "auto") -> str:
    """Return the `version` of the engine that these settings mean, without making it.

    Where a network cannot be converted, the engine is torch all the same: its own `version` tells.

    Raises:
        UsageError: as `check_settings`.
    """
    place = check_settings(engine=engine, precision=precision, device=device)
    return _label(_chosen(engine, place), precision, place)


def _label(name: str, precision: str, place: str) -> str:
    """Library, its version, precision and kind of device.

    >>> _label("torch", "bf16", "cuda:1").split()[2:]
    ['bf16', 'cuda']
    """
    return f"{name} {version(name)} {precision} {place.partition(':')[0]}"


def _chosen(engine: str, place: str) -> str:
    if engine != "auto":
        return engine
    return "openvino" if place == "cpu" and _has_openvino() else "torch"


def _has_openvino() -> bool:
    return find_spec("openvino") is not None


def _device(device: str) -> str:
    import torch

    if device == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        device = accelerator.type if accelerator else "cpu"
    if device == "cuda" and torch.cuda.is_available():  # spelled out: threads do not inherit the rank's own device
        return f"cuda:{torch.cuda.current_device()}"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as err:  # torch asserts that it was compiled with CUDA
        raise UsageError(f"codes.device={device}: not available here: {str(err).splitlines()[0]}") from err
    return device
