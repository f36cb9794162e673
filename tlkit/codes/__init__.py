"""CNN codes: pooled activations of a frozen backbone, float32 (n, d)."""

from tlkit.codes.extraction import Codes, check_settings, extract, known_taps
from tlkit.codes.files import write_codes
from tlkit.codes.store import CodesStore

__all__ = ["Codes", "CodesStore", "check_settings", "extract", "known_taps", "write_codes"]
