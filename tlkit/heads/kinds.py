"""The kinds of heads, by the names that configurations and saved heads use."""

from tlkit.heads.head import Head
from tlkit.heads.knn import KNN
from tlkit.heads.prototype import Prototype
from tlkit.heads.ridge import Ridge
from tlkit.heads.softmax import SoftmaxRegression
from tlkit.heads.svm import LinearSVM
from tlkit.heads.trained import TrainedHead

HEADS: dict[str, type[Head]] = {
    "svm": LinearSVM,
    "softmax": SoftmaxRegression,
    "ridge": Ridge,
    "knn": KNN,
    "prototype": Prototype,
}

SAVED: dict[str, type[Head]] = {**HEADS, "trained": TrainedHead}
"""The kinds that a folder may hold: those, and what training a whole network leaves."""
