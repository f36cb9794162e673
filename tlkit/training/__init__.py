"""Training a backbone: what is frozen, how fast the rest learns, and the loop. This much of it is light to import."""

from tlkit.training.freezing import Policy
from tlkit.training.settings import Settings

__all__ = ["CHECKPOINT", "LOGS", "Policy", "Settings"]

CHECKPOINT, LOGS = "checkpoint.pt", "training"
"""What training leaves in the run directory: the state it goes on from, until the run is whole, and its logs."""
