"""Formula-driven images: classes that are random formulas, so that a network can be pretrained without a photograph.

Kataoka et al., "Pre-training without Natural Images" (ACCV 2020), make an image class of an iterated function system
(their section 3) and its images of small changes to the parameters. Anderson and Farrell, "Improving Fractal
Pre-training" (WACV 2022), say which systems are worth drawing (section 3.2: the singular values of their maps).
Kataoka et al., "Replacing Labeled Real-image Datasets with Auto-generated Contours" (CVPR 2022), show that contours do
as well. Three families of formulas are drawn here, all as clouds of points counted into pixels: `ifs`, `contour` and
`glyph` (a few Bezier strokes). `texture` fills whole pictures: filtered noise, folded or cut. Every function is
deterministic: the same generator state gives the same images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

MOST_MAPS = 6
HARMONICS = 12
STROKES = 3
CHUNK = 128
WAVES = 2


def uniform(low: float, high: float, shape: tuple[int, ...], generator: Generator) -> Tensor:
    """Draw float32 numbers evenly between two bounds."""
    return torch.rand(shape, generator=generator) * (high - low) + low


def ifs(classes: int, generator: Generator) -> Tensor:
    """Draw iterated function systems whose attractors fill the plane well.

    Each of 2 to 6 maps is a rotation, a scaling by two singular values s1 >= s2, another rotation and a random
    reflection, then a shift within [-1, 1]. A system is kept when its sum of s1 + 2 s2 lies between (5 + maps) / 2 and
    (6 + maps) / 2 (Anderson and Farrell 2022, section 3.2), and when its picture is neither dust nor a blot.

    Returns:
        float32 (classes, 6, 7): matrix row by row, shift, probability (0 for maps that the system does not have).
    """
    kept: list[Tensor] = []
    while sum(map(len, kept)) < classes:
        systems = _balanced_systems(4 * classes + 64, generator)
        filled = (render(ifs_points(systems, 0.0, 4096, generator), 32) > 0).float().mean((1, 2))
        kept.append(systems[(filled > 0.1) & (filled < 0.7)])
    return torch.cat(kept)[:classes]


def _balanced_systems(tries: int, generator: Generator) -> Tensor:
    maps = torch.randint(2, MOST_MAPS + 1, (tries, 1), generator=generator)
    used = torch.arange(MOST_MAPS) < maps
    s1, s2 = uniform(0, 1, (tries, MOST_MAPS, 2), generator).sort(-1, descending=True).values.unbind(-1)
    factor = ((s1 + 2 * s2) * used).sum(1)
    good = (factor > (5 + maps[:, 0]) / 2) & (factor < (6 + maps[:, 0]) / 2)
    s1, s2, used = s1[good], s2[good], used[good]
    scale = torch.stack([s1, s2], -1)
    flip = torch.randint(0, 2, scale.shape, generator=generator) * 2.0 - 1.0
    matrix = _rotation(s1, generator) @ (scale[..., None] * _rotation(s1, generator)) * flip[..., None, :]
    probability = (s1 * s2).clamp(min=0.02) * used
    probability = probability / probability.sum(1, keepdim=True)
    return torch.cat([matrix.flatten(-2), uniform(-1, 1, scale.shape, generator), probability[..., None]], -1)


def _rotation(like: Tensor, generator: Generator) -> Tensor:
    angle = uniform(0, math.tau, tuple(like.shape), generator)
    return torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).view(*angle.shape, 2, 2)


def ifs_points(systems: Tensor, change: float, points: int, generator: Generator) -> Tensor:
    """Play the chaos game on every system at once.

    One map of each system is scaled by up to `change`, which makes another image of the same class (Anderson and
    Farrell 2022, section 3.4). 256 orbits run side by side; instead of a draw for each of them, the orbits are
    shuffled in front of maps that stand fixed in proportion to their probability.

    Args:
        systems: float32 (n, 6, 7) as `ifs` draws them.
        change: the largest relative change of one map.
        points: how many points of the attractor.
        generator: the source of randomness.

    Returns:
        float32 (n, points, 2).
    """
    orbits, settle = 256, 16
    n = len(systems)
    factor = torch.ones(n, MOST_MAPS)
    changed = torch.multinomial(systems[..., 6], 1, generator=generator)
    factor.scatter_(1, changed, 1 + uniform(-change, change / 2, (n, 1), generator))
    slot = (torch.arange(orbits) + 0.5) / orbits
    choice = torch.searchsorted(systems[..., 6].cumsum(1).contiguous(), slot.repeat(n, 1)).clamp(max=MOST_MAPS - 1)
    maps = (systems[..., :6] * factor[..., None]).gather(1, choice[..., None].expand(-1, -1, 6))
    a, b, c, d, e, f = maps.unbind(-1)
    x, y = torch.zeros(n, orbits), torch.zeros(n, orbits)
    trail = []
    for step in range(settle + -(-points // orbits)):
        order = torch.randperm(orbits, generator=generator)
        x, y = x[:, order], y[:, order]
        x, y = (a * x + b * y + e).clamp(-1e3, 1e3), (c * x + d * y + f).clamp(-1e3, 1e3)
        if step >= settle:
            trail.append(torch.stack([x, y], -1))
    return torch.cat(trail, 1)[:, :points]


def contour(classes: int, generator: Generator) -> Tensor:
    """Draw closed curves: a circle whose radius is bent by waves (in the manner of Kataoka et al. 2022, section 3).

    Returns:
        float32 (classes, 27): strength and phase of 12 waves, how many copies inside each other, their spacing, squash.
    """
    wave = torch.arange(1, HARMONICS + 1)
    strength = torch.randn(classes, HARMONICS, generator=generator).abs() * wave**-0.7 * 0.5
    strength *= torch.rand(strength.shape, generator=generator) < 0.4
    phase = uniform(0, math.tau, (classes, HARMONICS), generator)
    copies = torch.randint(1, 7, (classes, 1), generator=generator).float()
    spacing, squash = uniform(0.1, 0.3, (classes, 1), generator), uniform(0.4, 1, (classes, 1), generator)
    return torch.cat([strength, phase, copies, spacing, squash], 1)


def contour_points(curves: Tensor, change: float, points: int, generator: Generator) -> Tensor:
    """Place points on closed curves whose waves are changed a little; float32 (n, points, 2)."""
    n = len(curves)
    strength, phase = curves[:, :HARMONICS], curves[:, HARMONICS : 2 * HARMONICS]
    copies, spacing, squash = curves[:, 24:25], curves[:, 25:26], curves[:, 26:27]
    strength = strength * (1 + uniform(-2, 2, (n, HARMONICS), generator) * change)
    phase = phase + uniform(-2, 2, (n, HARMONICS), generator) * change
    angle = uniform(0, math.tau, (n, points), generator)
    waves = torch.arange(1, HARMONICS + 1)[:, None] * angle[:, None] + phase[..., None]
    radius = 1 + (strength[:, None] @ waves.cos())[:, 0]
    radius = radius * (1 - spacing * (torch.rand(n, points, generator=generator) * copies).floor()).clamp(min=0)
    return torch.stack([radius * angle.cos(), radius * angle.sin() * squash], -1)


def glyph(classes: int, generator: Generator) -> Tensor:
    """Draw signs of one to three strokes, each a cubic Bezier curve.

    Returns:
        float32 (classes, 3, 4, 2): the control points; the strokes that a sign lacks repeat those it has.
    """
    strokes = uniform(-1, 1, (classes, STROKES, 4, 2), generator)
    joined = torch.rand(classes, generator=generator) < 0.6
    strokes[joined, 1:, 0] = strokes[joined, :-1, 3]
    count = torch.randint(1, STROKES + 1, (classes, 1), generator=generator)
    return strokes.gather(1, (torch.arange(STROKES) % count)[..., None, None].expand(-1, -1, 4, 2))


def glyph_points(strokes: Tensor, change: float, points: int, generator: Generator) -> Tensor:
    """Place points on strokes whose control points are moved a little; float32 (n, points, 2)."""
    n = len(strokes)
    moved = strokes + torch.randn(strokes.shape, generator=generator) * change * 0.6
    moved = torch.where((strokes[:, :1] == strokes).all((2, 3), keepdim=True), moved[:, :1], moved)
    t = torch.rand(n, STROKES, -(-points // STROKES), generator=generator)[..., None]
    p0, p1, p2, p3 = (moved[:, :, i, None] for i in range(4))
    line = (1 - t) ** 3 * p0 + 3 * (1 - t) ** 2 * t * p1 + 3 * (1 - t) * t**2 * p2 + t**3 * p3
    width = uniform(0.01, 0.12, (n, 1, 1), generator)
    flat = line.flatten(1, 2)[:, :points]
    return flat + width * torch.randn(flat.shape, generator=generator).clamp(-1.5, 1.5)


def render(points: Tensor, size: int) -> Tensor:
    """Count points into pixels, the figure centred and as large as the picture; brightness is the logarithm of counts.

    Args:
        points: float32 (n, points, 2), any scale.
        size: side of the pictures in pixels.

    Returns:
        uint8 (n, size, size).
    """
    centre = points.mean(1, keepdim=True)
    offset = points - centre
    half = torch.minimum(offset.abs().amax(1), 3 * offset.std(1)).amax(1)[:, None, None].clamp(min=1e-6)
    pixel = ((offset / half * 0.4999 + 0.5) * size).long()
    inside = ((pixel >= 0) & (pixel < size)).all(-1).float()
    flat = (pixel[..., 1] * size + pixel[..., 0]).clamp(0, size * size - 1)
    counts = torch.zeros(len(points), size * size).scatter_add_(1, flat, inside)
    bright = counts.log1p()
    top = bright.amax(1, keepdim=True).clamp(min=1e-6)
    return (bright / top * 255).round().to(torch.uint8).view(-1, size, size)


@dataclass(frozen=True)
class Family:
    """How a family draws its classes (formulas) and the points of their images."""

    formulas: Callable[[int, Generator], Tensor]
    points: Callable[[Tensor, float, int, Generator], Tensor]


FAMILIES: Mapping[str, Family] = {
    "ifs": Family(ifs, ifs_points),
    "contour": Family(contour, contour_points),
    "glyph": Family(glyph, glyph_points),
}


def dataset(
    classes: Mapping[str, int], images: int, *, size: int, seed: int, part: int = 0, change: float = 0.2
) -> tuple[Tensor, Tensor]:
    """Draw every image of a pretraining set.

    Args:
        classes: how many classes of each family.
        images: how many images of each class.
        size: side of the pictures in pixels.
        seed: the same seed gives the same pictures.
        part: another part has other images of the same classes.
        change: how much the images of a class differ.

    Returns:
        Pictures, uint8 (n, size, size), and their classes, int64 (n,), class by class.

    >>> pictures, labels = dataset({"ifs": 2, "glyph": 1}, 3, size=16, seed=0)
    >>> pictures.shape, labels.tolist()
    (torch.Size([9, 16, 16]), [0, 0, 0, 1, 1, 1, 2, 2, 2])
    """
    generator = Generator().manual_seed(seed + 1_000_003 * (part + 1))
    pictures: list[Tensor] = []
    for name, count in classes.items():
        formulas = FAMILIES[name].formulas(count, Generator().manual_seed(seed)).repeat_interleave(images, 0)
        clouds = (
            FAMILIES[name].points(chunk, change, 2 * size**2, generator) for chunk in torch.split(formulas, CHUNK)
        )
        pictures.extend(render(cloud, size) for cloud in clouds)
    return torch.cat(pictures), torch.arange(sum(classes.values())).repeat_interleave(images)


def texture(classes: int, generator: Generator) -> Tensor:
    """Draw textures: two bands of noise, each with a frequency, a width and a direction, and what is done to their sum.

    Returns:
        float32 (classes, 13): for each band log2 of cycles per picture, width in octaves, direction, how strictly it is
        kept (0: every direction) and strength; then the manner (see `texture_pictures`), its sharpness, its level.
    """
    n = (classes, WAVES)
    strict = uniform(0.5, 8, n, generator) * (torch.rand(n, generator=generator) < 0.5)
    strength = torch.stack([torch.ones(classes), uniform(0, 1, (classes,), generator)], 1)
    bands = [uniform(0.5, 4.3, n, generator), uniform(0.15, 1.2, n, generator), uniform(0, math.pi, n, generator)]
    manner = torch.randint(0, 4, (classes,), generator=generator).float()
    last = torch.stack([manner, uniform(1, 4, (classes,), generator), uniform(-0.8, 0.8, (classes,), generator)], 1)
    return torch.cat([torch.stack([*bands, strict, strength], -1).flatten(1), last], 1)


def texture_pictures(textures: Tensor, change: float, size: int, generator: Generator) -> Tensor:
    """Draw one picture of each texture, its bands changed a little; the pictures can be tiled.

    The noise is left as it is (manner 0), folded into ridges (1), cut into patches (2) or wound into stripes (3).

    Returns:
        uint8 (n, size, size).
    """
    n = len(textures)
    bands = textures[:, : 5 * WAVES].view(n, WAVES, 5, 1, 1)
    moved = bands[:, :, :3] + uniform(-1, 1, (n, WAVES, 3, 1, 1), generator) * change
    y, x = torch.fft.fftfreq(size, 1 / size)[:, None], torch.fft.rfftfreq(size, 1 / size)
    octave, direction = (x.square() + y.square()).clamp(min=0.25).sqrt().log2(), torch.atan2(y, x + 0 * y)
    gain = torch.exp(-((octave - moved[:, :, 0]) / moved[:, :, 1].clamp(min=0.1)).square() / 2)
    gain = gain * torch.exp(bands[:, :, 3] * ((2 * (direction - moved[:, :, 2])).cos() - 1))
    gain[:, :, 0, 0] = 0
    noise = torch.complex(*torch.randn(2, *gain.shape, generator=generator))
    waves = torch.fft.irfft2(noise * gain, s=(size, size))
    waves = waves / waves.std((2, 3), keepdim=True).clamp(min=1e-6)
    field = (waves * bands[:, :, 4]).sum(1)
    field = field / field.std((1, 2), keepdim=True).clamp(min=1e-6)
    manner, sharp, level = (column[:, None, None] for column in textures[:, 5 * WAVES :].unbind(1))
    ridges, patches = (-sharp * field.abs()).exp(), torch.sigmoid(3 * sharp * (field - level))
    drawn = torch.where(manner == 1, ridges, torch.where(manner == 2, patches, (sharp * field).sin() / 2 + 0.5))
    drawn = torch.where(manner == 0, field / 4 + 0.5, drawn)
    return (drawn.clamp(0, 1) * 255).round().to(torch.uint8)


def texture_dataset(
    classes: int, images: int, *, size: int, seed: int, part: int = 0, change: float = 0.12
) -> tuple[Tensor, Tensor]:
    """Draw every texture of a pretraining set; as `dataset`.

    >>> pictures, labels = texture_dataset(2, 3, size=16, seed=0)
    >>> pictures.shape, labels.tolist()
    (torch.Size([6, 16, 16]), [0, 0, 0, 1, 1, 1])
    """
    generator = Generator().manual_seed(seed + 1_000_003 * (part + 1))
    formulas = texture(classes, Generator().manual_seed(seed)).repeat_interleave(images, 0)
    pictures = [texture_pictures(chunk, change, size, generator) for chunk in torch.split(formulas, CHUNK)]
    return torch.cat(pictures), torch.arange(classes).repeat_interleave(images)
