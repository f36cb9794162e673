"""Backbones: pretrained networks with named taps, ordered stages, their own preprocess, and weights of known origin."""

from tlkit.backbones.build import from_module, from_timm
from tlkit.backbones.contract import Backbone, Recipe, Reference, Stage, Tap, Weights
from tlkit.backbones.stages import classifier_parameters
from tlkit.backbones.taps import activations, read_taps
from tlkit.backbones.weights import load_weights, read_tensors, state_digest

__all__ = [
    "Backbone",
    "Recipe",
    "Reference",
    "Stage",
    "Tap",
    "Weights",
    "activations",
    "classifier_parameters",
    "from_module",
    "from_timm",
    "load_weights",
    "read_taps",
    "read_tensors",
    "state_digest",
]
