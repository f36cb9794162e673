"""Receptive fields: how much of the image a value in a map can see, followed from tensor to tensor.

A field is `size` pixels of the image along each side, and two neighbours in the map see fields that are `jump` pixels
apart (Araujo, Norris and Sim 2019, "Computing Receptive Fields of Convolutional Neural Networks"). Padding moves
fields and makes them no larger; what normalisation computes over a map is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf, prod

Pair = tuple[int, int]
# A dimension of a tensor: what it is made of, slowest first, as (axis, length); axes are "c", "h", "w" or "s" (h and w
# in some other order). Lengths of 1 are left out.
Dim = tuple[tuple[str, int], ...]
_SPACE = frozenset("hws")


@dataclass(frozen=True)
class Field:
    """What a value sees: (height, width) in pixels, infinite for the whole image, and the distance of neighbours."""

    size: tuple[float, float] = (1, 1)
    jump: Pair = (1, 1)


@dataclass(frozen=True)
class Seen:
    """What is known of a tensor of activations.

    Attributes:
        dims: What each dimension is made of; None where that was lost.
        field: None where arithmetic does not tell: after attention, for instance.
    """

    dims: tuple[Dim, ...] | None
    field: Field | None


def image(height: int, width: int, channels: int) -> Seen:
    """Return what is known of an image (1, C, H, W)."""
    return Seen(
        ((), *(((axis, n),) if n > 1 else () for axis, n in zip("chw", (channels, height, width), strict=True))),
        Field(),
    )


def windowed(
    seen: Seen, before: Sequence[int], after: Sequence[int], kernel: Pair, stride: Pair, dilation: Pair
) -> Seen:
    """Return what is known after a convolution or pooling.

    Args:
        seen: Of the input.
        before: Shape of the input, (n, C, H, W).
        after: Shape of the output.
        kernel: Height and width.
        stride: The same.
        dilation: The same.

    >>> two = windowed(windowed(image(9, 9, 1), (1, 1, 9, 9), (1, 1, 9, 9), (3, 3), (1, 1), (1, 1)),
    ...                (1, 1, 9, 9), (1, 1, 9, 9), (3, 3), (1, 1), (1, 1))
    >>> two.field
    Field(size=(5, 5), jump=(1, 1))
    """
    if seen.field is None or not _is_map(seen.dims):
        return Seen(image(after[2], after[3], after[1]).dims, None)
    size, jump = [], []
    for side in (0, 1):
        reach = dilation[side] * (kernel[side] - 1)
        everything = 1 < before[2 + side] <= reach + 1 and after[2 + side] == 1
        size.append(inf if everything else seen.field.size[side] + reach * seen.field.jump[side])
        jump.append(seen.field.jump[side] * stride[side])
    return Seen(image(after[2], after[3], after[1]).dims, Field((size[0], size[1]), (jump[0], jump[1])))


def adapted(seen: Seen, before: Sequence[int], after: Sequence[int]) -> Seen:
    """Return what is known after a pooling to a given size, whose windows follow from it."""
    sides = [(before[2 + side], after[2 + side]) for side in (0, 1)]
    # Windows of one layer may differ by a row where the sizes do not divide.
    kernel = [ceil(n / out) + (n % out > 0) if n > out else 1 for n, out in sides]
    stride = [max(n // out, 1) for n, out in sides]
    return windowed(seen, before, after, (kernel[0], kernel[1]), (stride[0], stride[1]), (1, 1))


def reduced(seen: Seen, dims: Sequence[int], keepdim: bool) -> Seen:
    """Return what is known after a mean or the like over some dimensions."""
    if seen.dims is None:
        return Seen(None, None)
    gone = {dim % len(seen.dims) for dim in dims}
    axes = {axis for dim in gone for axis, _ in seen.dims[dim]}
    kept = tuple(() if number in gone else dim for number, dim in enumerate(seen.dims) if keepdim or number not in gone)
    if seen.field is None:
        return Seen(kept, None)
    size = [inf if axes & {side, "s"} else old for side, old in zip("hw", seen.field.size, strict=True)]
    return Seen(kept, Field((size[0], size[1]), seen.field.jump))


def contracted(seen: Seen, out: int) -> Seen:
    """Return what is known after a fully connected layer over the last dimension."""
    if seen.dims is None:
        return Seen(None, None)
    dims = (*seen.dims[:-1], (("c", out),) if out > 1 else ())
    mixed = [axis for axis, _ in seen.dims[-1] if axis in _SPACE]
    left = [axis for dim in dims[:-1] for axis, _ in dim if axis in _SPACE]
    if not mixed or seen.field is None:
        return Seen(dims, seen.field)
    return Seen(dims, None if left else Field((inf, inf), seen.field.jump))


def reshaped(seen: Seen, shape: Sequence[int]) -> Seen:
    """Return what is known after the same numbers were given another shape.

    >>> reshaped(Seen(((), (("c", 8),), (("h", 4),), (("w", 4),)), Field()), (1, 8, 16)).dims
    ((), (('c', 8),), (('h', 4), ('w', 4)))
    """
    if seen.dims is None:
        return seen
    left = [factor for dim in seen.dims for factor in dim]
    dims: list[Dim] = []
    for length in shape:
        taken: list[tuple[str, int]] = []
        while prod(n for _, n in taken) < length and left:
            axis, n = left.pop(0)
            wanted = length // prod(m for _, m in taken)
            if n > wanted and wanted > 0 and n % wanted == 0:
                left.insert(0, (axis, n // wanted))
                n = wanted
            taken.append((axis, n))
        if prod(n for _, n in taken) != length:
            return replace(seen, dims=None)
        dims.append(tuple(taken))
    return replace(seen, dims=tuple(dims))


def permuted(seen: Seen, order: Sequence[int]) -> Seen:
    """Return what is known after the dimensions changed places."""
    return seen if seen.dims is None else replace(seen, dims=tuple(seen.dims[dim] for dim in order))


def resized(seen: Seen, before: Sequence[int], after: Sequence[int]) -> Seen:
    """Return what is known of a part of a tensor, or of one that was padded: every second row is one with a stride."""
    if seen.dims is None or len(before) != len(after):
        return replace(seen, dims=None)
    dims = tuple(dim if n == m else _of_length(dim, m) for dim, n, m in zip(seen.dims, before, after, strict=True))
    if seen.field is None or not _is_map(seen.dims) or len(before) != 4:
        return replace(seen, dims=dims)
    steps = [max(round(before[2 + side] / max(after[2 + side], 1)), 1) for side in (0, 1)]
    jump = (seen.field.jump[0] * steps[0], seen.field.jump[1] * steps[1])
    return Seen(dims, Field(seen.field.size, jump))


def merged(parts: Sequence[Seen], shapes: Sequence[Sequence[int]], after: Sequence[int]) -> Seen:
    """Return what is known of the sum, product or concatenation of some tensors: the largest field."""
    like = [part.dims for part, shape in zip(parts, shapes, strict=True) if list(shape) == list(after)]
    dims = next((dims for dims in like if dims is not None), None)
    if not like and parts[0].dims is not None and len(parts[0].dims) == len(after):
        dims = resized(replace(parts[0], field=None), shapes[0], after).dims
    fields = [part.field for part in parts if part.field is not None]
    if len(fields) < len(parts) or dims is None:
        return Seen(dims, None)
    size = tuple(max(field.size[side] for field in fields) for side in (0, 1))
    jump = tuple(max(field.jump[side] for field in fields) for side in (0, 1))
    return Seen(dims, Field((size[0], size[1]), (jump[0], jump[1])))


def lasting(after: Seen, before: Sequence[Seen]) -> Seen:
    """Let what is made of values that see the whole image see it, too, whatever happens to them."""
    fields = [seen.field for seen in before if seen.field is not None]
    whole = [field for field in fields if field.size == (inf, inf)]
    if after.field is not None or not whole or len(fields) < len(before):
        return after
    return replace(after, field=whole[0])


def channels_last(seen: Seen, shape: Sequence[int]) -> tuple[tuple[int, ...], bool]:
    """Return a shape with the channels last, as far as they are known, and whether it has positions.

    >>> channels_last(image(224, 192, 3), (1, 3, 224, 192))
    ((1, 224, 192, 3), True)
    """
    if seen.dims is None:
        return tuple(shape), False
    axes = [{axis for axis, _ in dim} for dim in seen.dims]
    spread = any(found & _SPACE for found in axes)
    a_map = spread and _is_map(seen.dims)  # whose only channel leaves no trace
    order = [0, 2, 3, 1] if a_map else sorted(range(len(shape)), key=lambda dim: axes[dim] == {"c"})
    return tuple(shape[dim] for dim in order), spread


def _is_map(dims: tuple[Dim, ...] | None) -> bool:
    """Tell whether dimensions are those of (n, C, H, W)."""
    if dims is None or len(dims) != 4:
        return False
    axes = [{axis for axis, _ in dim} for dim in dims]
    return not (axes[0] | axes[1]) & _SPACE and axes[2] <= {"h"} and axes[3] <= {"w"}


def _of_length(dim: Dim, length: int) -> Dim:
    axes = {axis for axis, _ in dim}
    return ((axes.pop() if len(axes) == 1 else "s" if axes & _SPACE else "c", length),) if length > 1 else ()
