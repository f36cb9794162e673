"""What a classifier is worth: metrics of its probabilities, and the lines that report them."""

from tlkit.evaluation.metrics import evaluate

__all__ = ["evaluate"]
