"""Ensembles: independent classifiers vote (CS231n, "Model ensembles")."""
