"""Settings of heads: checked before there are codes, and what they mean once there are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from tlkit.errors import UsageError, did_you_mean, some

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def require_one_of(name: str, value: object, options: Sequence[str | None]) -> None:
    """Stop unless `value` is one of `options`.

    Raises:
        UsageError: It is not.
    """
    if not (value is None or isinstance(value, str)) or value not in options:
        close = did_you_mean(str(value), [option for option in options if option])
        raise UsageError(f"{name}={value!r} is not one of {', '.join(map(repr, options))}.{close}")


def require_device(device: object) -> None:
    """Stop unless `device` is written like a torch device, or is "auto".

    Raises:
        UsageError: It is not.
    """
    if not isinstance(device, str) or not re.fullmatch(r"auto|[a-z]+(:\d+)?", device):
        raise UsageError(f"device={device!r}: give 'auto', 'cpu', 'cuda', or 'cuda:NUMBER'")


def require_weights(class_weight: object) -> None:
    """Stop unless `class_weight` is "auto", "balanced", None or a dict of weights.

    Raises:
        UsageError: It is not, or a weight is not above 0.
    """
    if not isinstance(class_weight, Mapping):
        require_one_of("class_weight", class_weight, ("auto", "balanced", None))
        return
    for label, weight in class_weight.items():
        if not _is_positive(weight):
            raise UsageError(f"class_weight: {label!r} has the weight {weight!r}; give a number above 0")


def require_parts(parts: object) -> None:
    """Check the widths of parts.

    Raises:
        UsageError: They are no list of whole numbers above 0.
    """
    whole = isinstance(parts, list | tuple) and all(isinstance(width, int) and width > 0 for width in parts)
    if parts is not None and not (whole and parts):
        raise UsageError(f"parts={parts!r}: give a list of widths, whole numbers above 0, or None")


def class_weights(
    class_weight: str | Mapping[Any, float] | None, classes: NDArray[Any], counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the weight (k,) of each of `classes`, of which there are `counts` rows.

    >>> class_weights("auto", np.array(["cat", "dog"]), np.array([1, 4]))
    array([2.5  , 0.625])

    Raises:
        UsageError: A dict names labels that are none of the classes.
    """
    if isinstance(class_weight, Mapping):
        unknown = set(class_weight) - set(classes.tolist())
        if unknown:
            raise UsageError(f"class_weight: {some(sorted(map(repr, unknown)))}: no such class. {_named(classes)}")
        return np.array([class_weight.get(label, 1.0) for label in classes.tolist()], dtype=np.float64)
    if class_weight == "balanced" or (class_weight == "auto" and counts.max() > 3 * counts.min()):
        return np.asarray(counts.sum() / (len(counts) * counts), dtype=np.float64)
    return np.ones(len(counts))


def values(name: str, given: object, *, whole: bool) -> list[float]:
    """Return the distinct values that a user gave, one or several, smallest first.

    Raises:
        UsageError: One is not above 0 and finite, or, where the values must be `whole`, not a whole number.
    """
    listed = given if isinstance(given, list | tuple | np.ndarray) else [given]
    numbers = [float(value) for value in listed if _is_positive(value)]
    if not numbers or len(numbers) < len(listed) or (whole and any(number % 1 for number in numbers)):
        raise UsageError(f"{name}={given!r}: give one {'whole ' * whole}number or several, each above 0 and finite")
    return sorted({int(number) if whole else number for number in numbers})


def _is_positive(value: object) -> TypeGuard[float]:
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return number and bool(0 < value < np.inf)  # type: ignore[operator]


def _named(classes: NDArray[Any]) -> str:
    return f"The classes are {some(map(repr, classes.tolist()))}."
