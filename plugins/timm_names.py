"""Names of timm's architectures without importing timm, which takes seconds."""

import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_BUILDER = re.compile(r"^@register_model\s+def (\w+)\(", re.MULTILINE)


@cache
def names() -> frozenset[str]:
    """Read the names from the source of the installed timm; a test compares them with `timm.list_models()`.

    >>> "resnet50" in names()
    True
    """
    spec = find_spec("timm")
    if spec is None or not spec.submodule_search_locations:
        return frozenset()
    files = Path(spec.submodule_search_locations[0], "models").glob("*.py")
    return frozenset(name for file in files for name in _BUILDER.findall(file.read_text(encoding="utf-8")))
