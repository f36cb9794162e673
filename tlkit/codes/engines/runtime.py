"""OpenVINO, imported in such a way that it reports to nobody.

Its mere import sends an event, with an identifier of the user, to its makers over the net, and so does
`openvino.convert_model`: unasked, and from a process that is forked for that. Where the package that does it is
missing, OpenVINO takes a stub. Whoever imports OpenVINO before tlkit is left to decide alone.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_REPORTER = "openvino_telemetry"


@contextmanager
def _hidden(package: str) -> Iterator[None]:
    """Make a package look as if it were not installed."""
    before = sys.modules.get(package)
    sys.modules[package] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[package]
        if before is not None:
            sys.modules[package] = before


with _hidden(_REPORTER):
    import openvino as ov
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

__all__ = ["FrontEndManager", "TorchScriptPythonDecoder", "ov"]
