"""Preprocess: from a decoded image to the numbers a backbone was trained on, as timm does it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import PIL.Image

from tlkit.data.images import UnreadableImage

if TYPE_CHECKING:
    import torch


_MOST_PIXELS = 50_000_000  # of a resized image, cropping not considered


@dataclass(frozen=True)
class Preprocess:
    """A backbone's own way from pixels to tensor; the fields have timm's names and meanings.

    Attributes:
        input_size: Channels (3, or 1 for a grey network), height, width.
        interpolation: "bilinear", "bicubic", "lanczos", "nearest", ...
        mean: Per channel, for pixels in 0 to 1.
        std: Per channel, for pixels in 0 to 1.
        crop_pct: Cropped size as a share of the resized size.
        crop_mode: "center", "squash" or "border".
    """

    input_size: tuple[int, int, int]
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    crop_pct: float
    crop_mode: str = "center"

    @classmethod
    def from_timm(cls, pretrained_cfg: Mapping[str, Any]) -> Preprocess:
        """Read a timm model's `pretrained_cfg`; what it leaves open gets timm's defaults."""
        from timm.data.config import resolve_data_config

        # The default crop mode is spelled out since timm refuses an empty configuration.
        configuration = {"crop_mode": "center", **pretrained_cfg}
        return cls.from_dict(resolve_data_config(pretrained_cfg=configuration))  # type: ignore[no-untyped-call]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocess:
        """Undo `to_dict`."""
        channels, height, width = (int(size) for size in values["input_size"])
        return cls(
            input_size=(channels, height, width),
            interpolation=str(values["interpolation"]),
            mean=tuple(float(value) for value in values["mean"]),
            std=tuple(float(value) for value in values["std"]),
            crop_pct=float(values["crop_pct"]),
            crop_mode=str(values["crop_mode"]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, fit for JSON."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @property
    def mode(self) -> str:
        """Pillow's name for the colours that the network sees: "RGB", or "L" for a grey one."""
        return "L" if self.input_size[0] == 1 else "RGB"

    def pixels(self, rgb: PIL.Image.Image) -> npt.NDArray[np.uint8]:
        """Resize and crop an image from `decode`, as `timm.data.create_transform` does for evaluation.

        Returns:
            (H, W, C) uint8.
        """
        return as_array(self.crop(self.resize(rgb)))

    def resize(self, rgb: PIL.Image.Image) -> PIL.Image.Image:
        """Do the first step of `pixels`: the image in the network's scale, grey for a grey network, not cropped yet.

        Raises:
            UnreadableImage: it is so long and thin that its resized version would not fit in memory.
        """
        if max(rgb.size) * max(self.input_size[1:]) ** 2 > _MOST_PIXELS * min(rgb.size) and self.crop_mode != "squash":
            raise UnreadableImage(f"too long and thin for a network: {rgb.width}x{rgb.height} pixels")
        return _steps(self)[0](rgb if rgb.mode == self.mode else rgb.convert(self.mode))

    def crop(self, resized: PIL.Image.Image) -> PIL.Image.Image:
        """Do the second step of `pixels`: the middle of the image, with a border where it is too small."""
        return _steps(self)[1](resized)

    def normalise(self, batch: torch.Tensor) -> torch.Tensor:
        """Turn (n, H, W, C) uint8 pixels into the float32 input of the network, on the batch's device.

        The steps and their order are those of torchvision's ToTensor and Normalize, for equal bits.

        Returns:
            (n, C, H, W) float32, channels last in memory.
        """
        import torch

        mean, std = (torch.tensor(values, dtype=torch.float32, device=batch.device) for values in (self.mean, self.std))
        return batch.to(torch.float32).div_(255).sub_(mean).div_(std).permute(0, 3, 1, 2)


def as_array(image: PIL.Image.Image) -> npt.NDArray[np.uint8]:
    """Copy the pixels of an 8-bit image: (H, W, C) uint8, with C = 1 for a grey one."""
    pixels = np.array(image)
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


_Step = Callable[[PIL.Image.Image], PIL.Image.Image]


@lru_cache(maxsize=32)
def _steps(preprocess: Preprocess) -> tuple[_Step, _Step]:
    """Timm's own resize and crop for evaluation."""
    from timm.data.transforms_factory import create_transform

    transform = create_transform(
        input_size=preprocess.input_size,
        is_training=False,
        use_prefetcher=True,
        interpolation=preprocess.interpolation,
        mean=preprocess.mean,
        std=preprocess.std,
        crop_pct=preprocess.crop_pct,
        crop_mode=preprocess.crop_mode,
    )
    resize, crop, _to_tensor = transform.transforms
    return resize, crop
