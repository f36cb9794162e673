"""Read images: find them in a folder, decode any of them to 8-bit RGB, and fingerprint their content."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import TypeAlias

import numpy as np
import PIL.Image
from PIL import ExifTags, ImageOps, UnidentifiedImageError

from tlkit.errors import TlkitError

Image: TypeAlias = Path | PIL.Image.Image
"""What every part of tlkit takes as one image: a file, opened when needed, or a Pillow image."""

# A list of what to open, not of what to refuse: EPS and WMF start other programs, and stubs call back into plugins.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM", "QOI", "DIB")
EXTENSIONS = frozenset(
    f".{ending}"
    for ending in (
        *("apng", "avif", "bmp", "dib", "gif", "j2k", "jfif", "jp2", "jpe", "jpeg", "jpg", "jpx", "pbm", "pgm"),
        *("png", "pnm", "ppm", "qoi", "tif", "tiff", "webp"),
    )
)
"""Lower-case file endings, with the dot, that `list_images` takes for images."""

_LOADING = [Lock() for _ in range(256)]  # by image: of one lock, threads on many processors would mostly wait


class UnreadableImage(TlkitError):
    """A file that is no image, or a damaged one; the message is a short reason without the file's name."""


def decode(image: Image | bytes) -> PIL.Image.Image:
    """Return an image the way a viewer shows it: mode "RGB", 8 bit, upright, on white where it is transparent.

    EXIF orientation is applied, animations give their first frame, and 16-bit grey is scaled by 1/257 instead of
    clipped. A damaged image is never completed with grey. Safe to call from many threads.

    Args:
        image: A file, its bytes, or a Pillow image of any mode. An upright RGB image is returned as it is, not copied.

    Raises:
        UnreadableImage: Missing, empty, damaged, too large, or not one of `FORMATS`.

    >>> decode(PIL.Image.new("LA", (2, 1), (0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    if isinstance(image, PIL.Image.Image):
        # One that was opened but not read yet must not be read by two threads at once.
        with _LOADING[id(image) // 16 % len(_LOADING)]:
            return _loaded(image)
    with open_bytes(image) if isinstance(image, bytes) else _opened(image) as opened:
        return _loaded(opened)


def measure(path: Path) -> tuple[int, int]:
    """Return the width and height that an image file's header gives, before any EXIF rotation.

    Raises:
        UnreadableImage: As `decode`, as far as the header tells.
    """
    with _opened(path) as opened:
        return opened.size


def open_bytes(data: bytes) -> PIL.Image.Image:
    """Open the content of an image file; its pixels are decoded on first use, by `decode`.

    Raises:
        UnreadableImage: Not one of `FORMATS`.
    """
    try:
        return PIL.Image.open(BytesIO(data), formats=FORMATS)
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        raise UnreadableImage(_wrong_content(data[:16], len(data), error)) from error


def digest(image: Image) -> str:
    """Return the SHA-256 of an image's content, as 64 hexadecimal digits.

    For a file these are its bytes; for a Pillow image size and pixels as `decode` returns them, so that whatever looks
    the same to a network has one digest.

    Raises:
        UnreadableImage: The file cannot be read, or the image cannot be decoded.
    """
    if isinstance(image, PIL.Image.Image):
        rgb = decode(image)
        return hashlib.sha256(f"RGB {rgb.size} ".encode() + rgb.tobytes()).hexdigest()
    try:
        with image.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UnreadableImage(_why_not_read(error)) from error


def content(image: Image) -> tuple[bytes, bytes | PIL.Image.Image]:
    """Read an image once: the 32 bytes of its `digest`, and what `decode` goes on with.

    Raises:
        UnreadableImage: As `digest`.
    """
    if isinstance(image, PIL.Image.Image):
        rgb = decode(image)
        return bytes.fromhex(digest(rgb)), rgb
    try:
        data = image.read_bytes()
    except OSError as error:
        raise UnreadableImage(_why_not_read(error)) from error
    return hashlib.sha256(data).digest(), data


def fingerprint(images: Sequence[Image]) -> str:
    """Return a digest of the content of all images, in their order.

    Raises:
        UnreadableImage: As `digest`.
    """
    total = hashlib.sha256()
    for image in images:
        total.update(content(image)[0])
    return total.hexdigest()


def list_images(folder: Path) -> tuple[list[Path], int]:
    """Return all images below a folder, sorted by path, and the number of other files.

    No file is opened. Hidden files and folders are passed over uncounted; links to folders are followed, but not
    in circles. A dangling link with an image's name is listed, so that it is reported and does not just vanish.

    Raises:
        TlkitError: A folder cannot be listed.
    """
    try:
        names = list(_names(os.fspath(folder), (), ""))
    except OSError as error:
        raise TlkitError(f"cannot list {error.filename}: {error.strerror}.") from error
    images = sorted(name for name in names if Path(name).suffix.lower() in EXTENSIONS)
    return [folder / name for name in images], len(names) - len(images)


def hidden(name: str) -> bool:
    """Tell whether a file or folder name is one that systems keep out of sight, like .ipynb_checkpoints."""
    return name.startswith(".") or name == "__MACOSX"


def _names(folder: str, ancestors: tuple[tuple[int, int], ...], prefix: str) -> Iterator[str]:
    """Yield the POSIX paths, relative to the top, of all visible files and dangling links."""
    status = Path(folder).stat()
    identity = (status.st_dev, status.st_ino)
    if identity in ancestors:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            if hidden(entry.name):
                continue
            if entry.is_dir():
                yield from _names(entry.path, (*ancestors, identity), f"{prefix}{entry.name}/")
            elif entry.is_file() or entry.is_symlink():
                yield prefix + entry.name


def _opened(path: Path) -> PIL.Image.Image:
    try:
        return PIL.Image.open(path, formats=FORMATS)
    except Exception as error:  # Pillow's readers raise nearly anything on damaged files
        raise UnreadableImage(_why_not_opened(path, error)) from error


def _loaded(image: PIL.Image.Image) -> PIL.Image.Image:
    try:
        image.load()
        return _rgb(_upright(image))
    except Exception as error:  # as above
        raise UnreadableImage(_damaged(image.format or "image", error)) from error


def _upright(image: PIL.Image.Image) -> PIL.Image.Image:
    try:
        turned = image.getexif().get(ExifTags.Base.Orientation, 1) != 1
    except Exception:  # an image with damaged EXIF is still an image
        return image
    return ImageOps.exif_transpose(image) if turned else image


def _rgb(image: PIL.Image.Image) -> PIL.Image.Image:
    if image.mode == "F" or image.mode.startswith("I"):
        return PIL.Image.fromarray(_eight_bit(np.asarray(image), image.mode)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = PIL.Image.new("RGBA", rgba.size, "white")
        return PIL.Image.alpha_composite(white, rgba).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bit(values: np.ndarray, mode: str) -> np.ndarray:
    """Map grey values of 16 or 32 bits, or floats, to uint8 by the smallest usual range that holds them."""
    grey = np.nan_to_num(values.astype(np.float64), posinf=0, neginf=0).clip(min=0)
    if mode.startswith("I;16"):
        top = 65535.0
    else:
        ranges = (1.0, 255.0, 65535.0) if mode == "F" else (255.0, 65535.0)
        peak = float(grey.max(initial=0.0))
        top = next((limit for limit in ranges if peak <= limit), peak)
    return np.rint(grey * (255 / top)).astype(np.uint8)


def _why_not_opened(path: Path, error: Exception) -> str:
    if isinstance(error, OSError) and not isinstance(error, UnidentifiedImageError):
        return _why_not_read(error)
    try:
        with path.open("rb") as file:
            return _wrong_content(file.read(16), path.stat().st_size, error)
    except OSError as problem:
        return _why_not_read(problem)


def _why_not_read(error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "a folder, not a file"
    return f"not readable: {error.strerror or error}"


def _wrong_content(start: bytes, size: int, error: Exception) -> str:
    if not size:
        return "empty file"
    if not isinstance(error, UnidentifiedImageError):
        return _damaged("image", error)
    for name in FORMATS:
        accept = PIL.Image.OPEN[name][1]
        if accept and accept(start.ljust(16, b"\0")) is True:
            return f"damaged or truncated {name}: its header cannot be read"
    return f"not an image (readable kinds: {', '.join(FORMATS[:-1])})"


def _damaged(kind: str, error: Exception) -> str:
    if isinstance(error, PIL.Image.DecompressionBombError):
        return f"too large: {error}"
    truncated = "truncated" in str(error).lower() or isinstance(error, EOFError)
    return f"{'truncated' if truncated else 'damaged'} {kind}: {error or type(error).__name__}"
