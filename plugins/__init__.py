"""The documented architectures, one module a family, over the public plugin contract of tlkit."""
