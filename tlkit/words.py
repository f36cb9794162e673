"""Settings as they are typed on the command line."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any


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

    >>> _spelled([1, "a", None]), _spelled(True)
    ('[1,a,null]', 'true')
    """
    if isinstance(value, list):
        return f"[{','.join(map(_spelled, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
