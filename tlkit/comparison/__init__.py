"""Finished runs side by side: what each reached and cost, and which of them really differ."""

from tlkit.comparison.command import compare
from tlkit.comparison.finished import Finished, find_runs, finished
from tlkit.comparison.pairs import Pair, groups, pairs

__all__ = ["Finished", "Pair", "compare", "find_runs", "finished", "groups", "pairs"]
