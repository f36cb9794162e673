"""Training a backbone: what is frozen, how fast the rest learns, and the loop. This much of it is light to import."""

from tlkit.training.freezing import Policy
from tlkit.training.settings import Settings

__all__ = ["Policy", "Settings"]
