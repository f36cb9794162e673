"""Which images a user means: a folder, a file, a glob, a text file of paths, or a list of these."""

from collections.abc import Sequence
from glob import glob
from pathlib import Path

from tlkit.data.imagedata import LazyImages
from tlkit.data.images import Image, list_images
from tlkit.errors import TlkitError, did_you_mean


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


def as_images(images: Sequence[Image | str]) -> LazyImages:
    """Let text stand for the path that it spells; nothing is opened."""

    def one(row: int) -> Image:
        image = images[row]
        return Path(image) if isinstance(image, str) else image

    return LazyImages(one, range(len(images)))


def _is_many(item: str | Path) -> bool:
    return Path(item).is_dir() or (not Path(item).exists() and any(sign in str(item) for sign in "*?["))


def _listed(path: Path) -> list[Path]:
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    paths = [Path(line) for line in lines if line]
    if not paths:
        raise TlkitError(f"images={path}: this list is empty; write one path a line.")
    return paths
