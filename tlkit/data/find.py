"""Which images a user means: a folder, a file, a glob, a text file of paths, or a list of these."""

from collections.abc import Iterable, Sequence
from glob import glob
from pathlib import Path

import PIL.Image

from tlkit.data.imagedata import LazyImages
from tlkit.data.images import Image, list_images
from tlkit.errors import TlkitError, UsageError, did_you_mean


def find_images(images: str | Path | Sequence[str | Path]) -> list[Path]:
    """Return the paths that are meant, in a stable order; a folder stands for all images below it.

    A path in a list may be unreadable or missing: it is returned as it is, so that it gets its row in the results.

    Raises:
        TlkitError: nothing is found.
    """
    if not isinstance(images, str | Path):
        paths = [path for item in images for path in (find_images(item) if _is_many(item) else [Path(item)])]
        if not paths:
            raise TlkitError("images=[]: name at least one image.")
        return paths
    path = Path(images)
    if path.is_dir():
        found, _ = list_images(path)
        if not found:
            raise TlkitError(f"images={images}: no images in this folder.")
        return found
    if path.is_file():
        return _listed(path) if path.suffix.lower() == ".txt" else [path]
    found = sorted(Path(name) for name in glob(str(images), recursive=True) if Path(name).is_file())  # noqa: PTH207
    if not found:
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise TlkitError(f"images={images}: no such folder, file or pattern.{did_you_mean(path.name, siblings)}")
    return found


def as_images(images: Iterable[Image | str]) -> Sequence[Image]:
    """Return the images of any collection, a pandas Series too, in its order; text is the path that it spells.

    Raises:
        UsageError: it is one image instead of several, or holds something else than paths and Pillow images.
    """
    if isinstance(images, LazyImages):
        return images
    if isinstance(images, str | Path | PIL.Image.Image):
        raise UsageError(f"{images!r} is one image: give a list of images, with a single one too.")
    listed = [Path(image) if isinstance(image, str) else image for image in images]
    if wrong := [image for image in listed if not isinstance(image, Path | PIL.Image.Image)]:
        raise UsageError(f"images are paths or Pillow images (PIL.Image.fromarray), not {type(wrong[0]).__name__}.")
    return listed


def _is_many(item: str | Path) -> bool:
    return Path(item).is_dir() or (not Path(item).exists() and any(sign in str(item) for sign in "*?["))


def _listed(path: Path) -> list[Path]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as err:
        raise TlkitError(f"images={path}: not a readable list of paths in UTF-8: {err}.") from err
    paths = [Path(line) for line in lines if line]
    if not paths:
        raise TlkitError(f"images={path}: this list is empty; write one path a line.")
    return paths
