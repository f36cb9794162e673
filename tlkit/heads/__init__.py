"""Heads: classifiers on CNN codes. Importing this imports scikit-learn."""

from tlkit.heads.storage import load_head, save_head
from tlkit.heads.svm import LinearSVM, UnusableCodesError

__all__ = ["LinearSVM", "UnusableCodesError", "load_head", "save_head"]
