"""For authors of plugins: checks that a backbone keeps its part of the contract."""

from tlkit.testing.backbones import backbone_checks

__all__ = ["backbone_checks"]
