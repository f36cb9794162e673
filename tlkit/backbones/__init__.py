"""Backbones: pretrained networks with named taps, ordered stages, their own preprocess, and weights of known origin."""

from tlkit.backbones.build import from_module, from_network, from_timm
from tlkit.backbones.contract import Backbone, Recipe, Reference, Stage, Tap, Weights
from tlkit.backbones.counting import count_macs, count_params
from tlkit.backbones.record import Record, documented, record_of
from tlkit.backbones.stages import classifier_parameters
from tlkit.backbones.taps import activations, read_taps
from tlkit.backbones.weights import load_weights, read_tensors, state_digest

__all__ = [
    "Backbone",
    "Recipe",
    "Record",
    "Reference",
    "Stage",
    "Tap",
    "Weights",
    "activations",
    "classifier_parameters",
    "count_macs",
    "count_params",
    "documented",
    "from_module",
    "from_network",
    "from_timm",
    "load_weights",
    "read_taps",
    "read_tensors",
    "record_of",
    "state_digest",
]
