"""Backward passes in which ReLUs follow another rule than that of the gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

Rule = Literal["guided", "deconvnet"]

# Functions by their names, without the underscores that mark methods and work in place.
_CLIPPED = {"relu": "ReLU", "relu6": "ReLU6", "hardtanh": "ReLU6"}
ACTIVATIONS = {
    **{"silu": "SiLU", "gelu": "GELU", "hardswish": "Hardswish", "mish": "Mish", "elu": "ELU", "selu": "SELU"},
    **{"leaky_relu": "LeakyReLU", "prelu": "PReLU", "tanh": "Tanh", "softplus": "Softplus"},
}
STRUCTURE = {
    **{"add": "sums", "iadd": "sums", "radd": "sums", "cat": "concatenation", "sigmoid": "gates"},
    **{"batch_norm": "BatchNorm (as its scale)", "layer_norm": "LayerNorm", "group_norm": "GroupNorm"},
    **{"avg_pool2d": "average pooling", "adaptive_avg_pool2d": "average pooling", "mean": "average pooling"},
    "scaled_dot_product_attention": "attention",
}


class Rectified(TorchFunctionMode):
    """While it is entered, what runs sends signals back by another rule than the gradient's where it has ReLUs.

    "guided": a ReLU passes back what is positive, where its own input was positive (Springenberg et al. 2015,
    "Striving for Simplicity: The All Convolutional Net", section 3.4). "deconvnet": it passes back what is positive,
    whatever its input was, and local response normalisation passes everything back as it is (Zeiler and Fergus 2013,
    "Visualizing and Understanding Convolutional Networks", section 2.1). The gradient of a convolution is the
    transposed filter already, and that of max-pooling is unpooling with switches, where overlapping windows with one
    maximum add up.

    It meets every ReLU and ReLU6 that PyTorch runs, as a module or a function, in place, reused, or on an input that
    others read too. captum's GuidedBackprop and Deconvolution hook modules of the class nn.ReLU, and there replace
    the whole gradient of the ReLU's input, also what came to it from a shortcut.

    Attributes:
        relus: how many ReLUs were met.
        pools: how many max-poolings.
        norms: how many local response normalisations.
        others: names of what was met besides them and of what the papers do not speak of.
    """

    def __init__(self, rule: Rule) -> None:
        super().__init__()
        self.rule = rule
        self.relus = 0
        self.pools = 0
        self.norms = 0
        self.others: list[str] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: object,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        plain = name.strip("_")
        if plain in _CLIPPED and (bounds := _bounds(plain, args, kwargs)):
            self._note(None if bounds[1] is None else _CLIPPED[plain])
            in_place = name.endswith("_") or bool(kwargs.get("inplace", False))
            return self._rectified(args[0], bounds[1], in_place=in_place)
        if plain == "local_response_norm":
            self.norms += 1
            value = func(*args, **kwargs)
            return _straight(args[0], value) if self.rule == "deconvnet" else value
        self.pools += plain.startswith("max_pool2d") or plain.startswith("adaptive_max_pool2d")
        if known := ACTIVATIONS.get(plain) or STRUCTURE.get(plain):
            self._note(known, relu=False)
        return func(*args, **kwargs)

    def _note(self, name: str | None, relu: bool = True) -> None:
        self.relus += relu
        if name is not None and name not in self.others:
            self.others.append(name)

    def _rectified(self, x: Tensor, top: float | None, *, in_place: bool) -> Tensor:
        source = x.clone() if in_place else x  # x will hold the result, and the gradient needs what it holds now
        y = F.relu(source) if top is None else F.hardtanh(source, 0.0, top)
        if self.rule == "deconvnet":
            y = _straight(source, y)
        if y.requires_grad:
            y.register_hook(F.relu)  # type: ignore[no-untyped-call]
        return x.copy_(y) if in_place else y


def _bounds(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[float, float | None] | None:
    """Return between what a function clips, None for no upper bound; None if it is no rectifier."""
    if name != "hardtanh":
        return 0.0, 6.0 if name == "relu6" else None
    low, high = (kwargs.get(key, default) for key, default in (("min_val", -1.0), ("max_val", 1.0)))
    low, high = (args[1] if len(args) > 1 else low), (args[2] if len(args) > 2 else high)
    return (0.0, float(high)) if low == 0 else None


def _straight(x: Tensor, value: Tensor) -> Tensor:
    """Return `value`, to the last bit, from where signals go back to x as they are."""
    return value.detach() + (x - x.detach())
