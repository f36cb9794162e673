"""Ensembles: independent classifiers vote (CS231n, "Model ensembles")."""

from tlkit.ensembles.ensemble import Ensemble, load_classifier, networks, require_same_classes
from tlkit.ensembles.voting import FITTED, VOTINGS, Voting

__all__ = ["FITTED", "VOTINGS", "Ensemble", "Voting", "load_classifier", "networks", "require_same_classes"]
