"""CNN codes: pooled activations of a frozen backbone, float32 (n, d), computed once and kept."""

from tlkit.codes.cache import Cache, cache_at
from tlkit.codes.extraction import Codes, known_taps
from tlkit.codes.files import export_format, load, write_codes
from tlkit.codes.rows import Rows
from tlkit.codes.store import RECIPE, CodesStore, ShareDone

__all__ = [
    "RECIPE",
    "Cache",
    "Codes",
    "CodesStore",
    "Rows",
    "ShareDone",
    "cache_at",
    "export_format",
    "known_taps",
    "load",
    "write_codes",
]
