"""CNN codes: pooled activations of a frozen backbone, float32 (n, d), computed once and kept."""

from tlkit.codes.cache import Cache, cache_at
from tlkit.codes.extraction import Codes, known_taps, require_all
from tlkit.codes.files import export_format, load, write_codes
from tlkit.codes.rows import Rows
from tlkit.codes.store import RECIPE, CodesStore, ShareDone
from tlkit.codes.together import compute_together

__all__ = [
    "RECIPE",
    "Cache",
    "Codes",
    "CodesStore",
    "Rows",
    "ShareDone",
    "cache_at",
    "compute_together",
    "export_format",
    "known_taps",
    "load",
    "require_all",
    "write_codes",
]
