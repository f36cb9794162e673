"""What holds for every source: settings that YAML can express, and nothing heavy loaded before it is called."""

import inspect
import subprocess
import sys
import typing
from collections.abc import Callable
from typing import Any

import pytest

from tlkit.data import ImageData, prepare
from tlkit.data.digits import digits
from tlkit.data.folder import folder
from tlkit.data.huggingface import hf
from tlkit.data.manifest import manifest
from tlkit.data.torchvision_sets import torchvision_set

_PLAIN = {"str", "int", "float", "bool", "NoneType"}


def _types(hint: Any) -> list[str]:  # noqa: ANN401
    """Name a type, or the types of what a Literal allows."""
    if typing.get_origin(hint) is typing.Literal:
        return [type(value).__name__ for value in typing.get_args(hint)]
    return [getattr(hint, "__name__", "str")]


@pytest.mark.parametrize("source", [digits, folder, hf, manifest, torchvision_set, prepare])
def test_settings_are_keyword_only_and_plain(source: Callable[..., ImageData]) -> None:
    hints = typing.get_type_hints(source)
    for name, parameter in inspect.signature(source).parameters.items():
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
            options = {option for hint in typing.get_args(hints[name]) or (hints[name],) for option in _types(hint)}
            assert options <= _PLAIN
            assert f"{name}: " in (inspect.getdoc(source) or "")
        else:
            assert source is prepare


def test_looking_at_the_signatures_loads_nothing_heavy() -> None:
    modules = ", ".join(
        f"tlkit.data.{name}" for name in ("digits", "folder", "huggingface", "manifest", "torchvision_sets")
    )
    heavy = "{'torch', 'torchvision', 'timm', 'sklearn', 'pandas', 'pyarrow', 'datasets', 'scipy', 'matplotlib'}"
    code = f"import sys, {modules}; print(*{heavy} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
