"""Hydra configurations, shipped as tlkit.conf."""
