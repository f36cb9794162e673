"""Settings as they are typed on the command line."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

_BARE = re.compile(r"[A-Za-z_/.~]([\w/.~ -]*[\w/.~-])?", re.ASCII)  # texts that Hydra reads as they are, also in lists


def words(**record: Any) -> str:  # noqa: ANN401
    """Spell settings as the words that choose them.

    >>> words(backbone={"name": "timm", "model": "vit"}, trainer={"precision": "bf16-mixed"}, seed=1)
    'backbone=timm/vit trainer.precision=bf16-mixed seed=1'
    """
    return " ".join(_words(record))


def _words(record: Mapping[str, Any]) -> Iterator[str]:
    for group, settings in record.items():
        rest = dict(settings) if isinstance(settings, Mapping) else {}
        if "name" in rest:
            model = [rest.pop("model")] if group == "backbone" and "model" in rest else []
            yield f"{group}={'/'.join([rest.pop('name'), *model])}"
        for key, value in rest.items() if isinstance(settings, Mapping) else [("", settings)]:
            yield shlex.quote(f"{group}.{key}={_spelled(value)}" if key else f"{group}={_spelled(value)}")


def _spelled(value: Any) -> str:  # noqa: ANN401
    """Spell a value as Hydra reads it.

    >>> _spelled([1, "a", None, "0-seed=1"]), _spelled({"name": "vgg16", "lr": 1e-05}), _spelled("null")
    ('[1,a,null,"0-seed=1"]', '{name:vgg16,lr:1e-05}', '"null"')
    """
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_spelled, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{_spelled(own)}' for key, own in value.items())}}}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return f"{value:.0f}"
    return _text(value) if isinstance(value, str) else str(value)


def _text(text: str) -> str:
    """Spell a text, in quotes where it would be read as something else."""
    if _BARE.fullmatch(text) and text.lower() not in ("null", "true", "false") and not _is_number(text):
        return text
    # Hydra reads a backslash as itself, but for those before a quote.
    return '"' + re.sub(r'(\\*)("|\Z)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), text) + '"'


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
