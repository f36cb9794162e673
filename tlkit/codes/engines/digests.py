"""Digests of a network: of what it is made of, beside its weights."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from enum import Enum
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tlkit.backbones import Backbone

# Libraries whose version says what their classes do.
_VERSIONED = ("timm", "torch", "torchvision")
# What a network remembers about its origin does not change what it computes, and may hold local paths.
_DEEPEST = 5  # objects within objects
_NOT_SETTINGS = ("default_cfg", "pretrained_cfg")


def structure_digest(backbone: Backbone) -> str:
    """Return the sha256 hex of what `state_digest` does not see of a network, the same in every process.

    These are the classes of its modules and their code (for timm and torch: their versions), every setting that a
    module keeps, such as padding, strides, epsilons and activations, and tensors that are not in the state dict.
    """
    total = sha256(repr([(name, version(name)) for name in _VERSIONED]).encode())
    classes: set[type] = set()
    for path, part in backbone.module.named_modules(remove_duplicate=False):
        total.update(f"{path}: {_name(type(part))} {_described(_settings(part))}\n".encode())
        classes.update(type(part).__mro__)
    for source in sorted({_source(kind) for kind in classes}):
        total.update(source.encode())
    return total.hexdigest()


def _settings(part: nn.Module) -> dict[str, Any]:
    """What a module keeps beside parameters, persistent buffers and other modules."""
    from torch import nn

    usual = {*vars(nn.Module()), *_NOT_SETTINGS}
    own = {name: value for name, value in vars(part).items() if name not in usual}
    loose = {name: part._buffers[name] for name in part._non_persistent_buffers_set}
    hooks = [*part._forward_pre_hooks.values(), *part._forward_hooks.values()]
    return {**own, **loose, "hooks": hooks}


def _name(thing: Any) -> str:  # noqa: ANN401
    return f"{thing.__module__}.{thing.__qualname__}"


def _described(value: Any, depth: int = 0) -> str:  # noqa: ANN401
    """Write a setting without memory addresses; of an object that is none of the known kinds, its class and attributes.

    >>> _described({"b": (1, 2.5), "a": partial(max, key=len), "c": object()})
    "{'a': partial(builtins.max, (), {'key': builtins.len}), 'b': (1, 2.5), 'c': builtins.object}"
    """
    import torch
    from torch import nn

    if isinstance(value, Mapping):
        return "{" + ", ".join(sorted(f"{key!r}: {_described(item, depth)}" for key, item in value.items())) + "}"
    if isinstance(value, list | tuple):
        return "(" + ", ".join(_described(item, depth) for item in value) + ")"
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(_described(item, depth) for item in value)) + "}"
    if isinstance(value, partial):
        return f"partial({_described(value.func)}, {_described(value.args)}, {_described(value.keywords)})"
    if isinstance(value, torch.Tensor):
        return _tensor(value)
    if isinstance(value, np.ndarray | np.generic):
        return f"{value.dtype} {value.shape} {sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    if isinstance(value, FunctionType):
        return f"{_name(value)} {_code(value.__code__)}"
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | Enum | torch.dtype):
        return repr(value)
    if hasattr(value, "__qualname__"):
        return _name(value)
    inside = {} if isinstance(value, nn.Module) or depth > _DEEPEST else getattr(value, "__dict__", {})
    return _name(type(value)) + (f"({_described(inside, depth + 1)})" if inside else "")


def _tensor(tensor: Tensor) -> str:
    import torch

    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return f"{tensor.dtype} {tuple(tensor.shape)} {sha256(flat.view(torch.uint8).numpy().data).hexdigest()}"


def _source(kind: type) -> str:
    """The code of a class that no version number stands for: the file that it is in, or else its methods."""
    if kind.__module__.partition(".")[0] in {*_VERSIONED, *sys.stdlib_module_names}:
        return ""
    try:
        return inspect.getsource(sys.modules[kind.__module__])
    except (OSError, TypeError, KeyError):  # it was typed into a notebook or a shell
        methods = sorted((name, item.__code__) for name, item in vars(kind).items() if isinstance(item, FunctionType))
        return _name(kind) + "".join(f"{name} {_code(code)}" for name, code in methods)


def _code(code: CodeType) -> str:
    constants = [_code(item) if isinstance(item, CodeType) else repr(item) for item in code.co_consts]
    return f"{code.co_code.hex()} {code.co_names} {constants}"
