"""Strategies: functions `(backbone, data, resources, *, settings) -> Classifier`, one a way to transfer."""

from tlkit.strategies.resources import Resources

__all__ = ["TRAINED", "Resources"]

TRAINED = ("partial", "full", "scratch")
"""Those that train the network, step by step."""
