"""Labelled images: where they come from, how they are split, read and prepared for a network."""

from tlkit.data.find import as_images, find_images
from tlkit.data.imagedata import ImageData
from tlkit.data.images import Image, UnreadableImage, content, decode, digest, fingerprint, list_images
from tlkit.data.inspection import inspect
from tlkit.data.preprocess import Preprocess
from tlkit.data.splits import prepare

__all__ = [
    "Image",
    "ImageData",
    "Preprocess",
    "UnreadableImage",
    "as_images",
    "content",
    "decode",
    "digest",
    "find_images",
    "fingerprint",
    "inspect",
    "list_images",
    "prepare",
]
