"""tlkit: transfer learning on your own images.

>>> import tlkit
>>> run = tlkit.fit(data="digits", backbone="tiny")  # doctest: +SKIP
>>> tlkit.load(run.path).predict(["scan.png"])  # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tlkit import codes, plots
    from tlkit.api import compare, ensemble, extract, fit, load, summary
    from tlkit.estimators import CNNCodes, TransferClassifier

__all__ = [
    "CNNCodes",
    "TransferClassifier",
    "codes",
    "compare",
    "ensemble",
    "extract",
    "fit",
    "load",
    "plots",
    "summary",
]

_HOME = {"CNNCodes": "estimators", "TransferClassifier": "estimators"}
_HOME |= dict.fromkeys(("compare", "ensemble", "extract", "fit", "load", "summary"), "api")
_MODULES = ("codes", "plots")


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import the public names when they are asked for: `tlkit --help` needs none of them."""
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"tlkit.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'tlkit' has no attribute {name!r}")
    return getattr(import_module(f"tlkit.{_HOME[name]}"), name)
