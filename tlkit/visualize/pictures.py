"""Which images are looked at."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tlkit.errors import TlkitError, UsageError, some
from tlkit.sources import data_of, new_data

if TYPE_CHECKING:
    from tlkit.data import Image, ImageData

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pictures:
    """n images, what to call them, and the names of their classes if these are known."""

    images: Sequence[Image]
    files: Sequence[str]
    truths: Sequence[str] | None

    def tell_unreadable(self, errors: Mapping[int, str]) -> None:
        """Log which images are left out, and why."""
        if errors:
            listed = some(f"{self.files[row]} ({why})" for row, why in errors.items())
            log.warning("left out, unreadable: %d: %s", len(errors), listed)


def find_pictures(
    run: Path | None,
    classes: Sequence[str] | None,
    data: Mapping[str, Any] | None,
    images: str | list[str] | None,
    split: str | None,
) -> Pictures:
    """Return the images that the settings of a command mean; those of the run if they name none.

    Args:
        run: its directory.
        classes: that labels must be of, if that matters.
        data: settings of a source.
        images: paths, in place of it.
        split: of the data; the one that is held out if None.

    Raises:
        UsageError: nothing says which.
        TlkitError: there are no such images.
    """
    from tlkit.data import find_images

    if images is not None:
        paths = find_images(images)
        return Pictures(paths, [str(path) for path in paths], None)
    if data is None and run is None:
        raise UsageError("give images to look at: data=NAME, images=FOLDER or run=RUN.")
    found: ImageData = data_of(run) if run and not data else new_data(data or {})
    found = found if classes is None else found.aligned(classes)
    split = split or found.held_out
    rows = np.arange(len(found)) if split == "all" else found.rows(split)
    if len(rows) == 0:
        raise TlkitError(f"split={split}: {found.name} has no such images. Splits: {found.split_sizes()}.")
    part = found.select(rows)
    return Pictures(part.images, part.files, [part.classes[label] for label in part.labels])
