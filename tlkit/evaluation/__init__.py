"""tlkit.evaluation."""
