"""Heads: classifiers on CNN codes. Importing this imports scikit-learn."""

from tlkit.heads.head import Head
from tlkit.heads.kinds import HEADS
from tlkit.heads.knn import KNN
from tlkit.heads.prototype import Prototype
from tlkit.heads.ridge import Ridge
from tlkit.heads.rows import UnusableCodesError
from tlkit.heads.softmax import SoftmaxRegression
from tlkit.heads.storage import load_head, save_head
from tlkit.heads.svm import LinearSVM
from tlkit.heads.trained import TrainedHead

__all__ = [
    "HEADS",
    "KNN",
    "Head",
    "LinearSVM",
    "Prototype",
    "Ridge",
    "SoftmaxRegression",
    "TrainedHead",
    "UnusableCodesError",
    "load_head",
    "save_head",
]
