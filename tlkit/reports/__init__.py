"""report.html: what a run decided, saw and reached, in one file that needs nothing else and runs nothing."""

from tlkit.reports.embedding import MOST, maps
from tlkit.reports.page import Shown, page

__all__ = ["MOST", "Shown", "maps", "page"]
