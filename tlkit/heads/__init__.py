"""tlkit.heads."""
