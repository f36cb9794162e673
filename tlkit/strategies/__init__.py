"""Strategies: functions `(backbone, data, resources, *, settings) -> Classifier`, one a way to transfer."""

from tlkit.strategies.resources import Resources

__all__ = ["Resources"]
