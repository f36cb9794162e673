"""How photographs come into networks that were trained on ImageNet, or are to be."""

from tlkit.data import Preprocess


def photographs(size: int) -> Preprocess:
    """Return torchvision's way from an image to `size` x `size` pixels: the middle seven eighths, mean 0, variance 1.

    Papers before 2015 subtract the mean and leave pixels as large as they are; weights that are drawn for inputs of
    variance 1 are then drawn wrongly.
    """
    return Preprocess(
        input_size=(3, size, size),
        interpolation="bilinear",
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        crop_pct=0.875,
    )
