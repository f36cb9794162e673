"""Every kind of image file, written by Pillow or by hand, against values worked out with NumPy."""

import gc
import hashlib
import os
import struct
import tempfile
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tlkit.data import UnreadableImage, decode, digest, list_images
from tlkit.data.images import EXTENSIONS, FORMATS, measure, open_bytes
from tlkit.errors import TlkitError

Array = npt.NDArray[np.uint8]


@pytest.fixture
def scene() -> Array:
    """An image of 24 rows and 16 columns in which no turn or reflection changes nothing."""
    rgb = np.zeros((24, 16, 3), dtype=np.uint8)
    rgb[:12, :8], rgb[:12, 8:], rgb[12:, :8], rgb[12:, 8:] = (200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)
    return rgb


def _close(image: PIL.Image.Image, expected: npt.ArrayLike, within: int = 0) -> None:
    assert image.mode == "RGB"
    actual = np.asarray(image).astype(int)
    assert actual.shape == np.shape(expected)
    assert np.abs(actual - np.asarray(expected, dtype=int)).max() <= within


# How a camera stores an upright image, by the EXIF 2.3 definition of tag 0x0112.
STORED: dict[int, Callable[[Array], Array]] = {
    1: lambda upright: upright,
    2: lambda upright: upright[:, ::-1],
    3: lambda upright: upright[::-1, ::-1],
    4: lambda upright: upright[::-1],
    5: lambda upright: upright.transpose(1, 0, 2),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: upright[::-1, ::-1].transpose(1, 0, 2),
    8: lambda upright: np.rot90(upright, -1),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(kind: str, orientation: int, scene: Array, tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo"
    stored = PIL.Image.fromarray(np.ascontiguousarray(STORED[orientation](scene)))
    options = {"quality": 95, "subsampling": 0} if kind == "JPEG" else {"lossless": True} if kind == "WEBP" else {}
    stored.save(path, kind, exif=exif, **options)
    _close(decode(path), scene, within=6 if kind == "JPEG" else 0)


@pytest.mark.filterwarnings("ignore")
def test_damaged_exif_does_not_cost_the_picture(scene: Array, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    PIL.Image.fromarray(scene).save(path, quality=95, subsampling=0, exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7fgarbage")
    _close(decode(path), scene, within=6)


@pytest.mark.parametrize(("mode", "endings"), [("RGBA", ("png", "webp", "tif")), ("LA", ("png", "tif"))])
def test_transparency_is_laid_on_white(mode: str, endings: tuple[str, ...], tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (9, 7, len(mode)), dtype=np.uint8)
    colour, alpha = values[..., :-1].astype(float), values[..., -1:] / 255
    expected = np.broadcast_to(np.rint(colour * alpha + 255 * (1 - alpha)), (9, 7, 3))
    for ending in endings:
        path = tmp_path / f"a.{ending}"
        options: dict[str, Any] = {"lossless": True, "exact": True} if ending == "webp" else {}
        PIL.Image.fromarray(values, mode).save(path, **options)
        _close(decode(path), expected, within=1)


@pytest.mark.parametrize("ending", ["png", "gif"])
def test_palette_with_and_without_a_transparent_colour(ending: str, tmp_path: Path) -> None:
    image = PIL.Image.fromarray(np.array([[0, 1], [1, 2]], dtype=np.uint8), "P")
    image.putpalette([10, 20, 30, 200, 0, 0, 0, 0, 90])
    image.save(tmp_path / f"plain.{ending}")
    image.save(tmp_path / f"clear.{ending}", transparency=1)
    opaque = [[(10, 20, 30), (200, 0, 0)], [(200, 0, 0), (0, 0, 90)]]
    clear = [[(10, 20, 30), (255, 255, 255)], [(255, 255, 255), (0, 0, 90)]]
    _close(decode(tmp_path / f"plain.{ending}"), opaque)
    _close(decode(tmp_path / f"clear.{ending}"), clear)


def test_partly_transparent_palette_and_colour_key(tmp_path: Path) -> None:
    image = PIL.Image.fromarray(np.array([[0, 1]], dtype=np.uint8), "P")
    image.putpalette([0, 0, 0, 200, 0, 0])
    image.save(tmp_path / "half.png", transparency=bytes([128, 255]))
    _close(decode(tmp_path / "half.png"), [[(127, 127, 127), (200, 0, 0)]], within=1)
    PIL.Image.fromarray(np.array([[9, 7]], dtype=np.uint8)).save(tmp_path / "key.png", transparency=9)
    _close(decode(tmp_path / "key.png"), [[(255, 255, 255), (7, 7, 7)]])


def test_cmyk_jpeg(tmp_path: Path) -> None:
    inks = np.zeros((32, 32, 4), dtype=np.uint8)
    inks[:16], inks[16:] = (0, 255, 255, 0), (0, 0, 0, 128)  # red above grey
    PIL.Image.fromarray(inks, "CMYK").save(tmp_path / "press.jpg", quality=100)
    expected = np.zeros((32, 32, 3))
    expected[:16], expected[16:] = (255, 0, 0), (127, 127, 127)
    _close(decode(tmp_path / "press.jpg"), expected, within=6)


def test_one_bit(tmp_path: Path) -> None:
    bits = np.random.default_rng(0).integers(0, 2, (5, 11)).astype(bool)
    for ending in ("png", "tif", "pbm"):
        PIL.Image.fromarray(bits).save(tmp_path / f"scan.{ending}")
        _close(decode(tmp_path / f"scan.{ending}"), np.repeat(bits[..., None] * 255, 3, axis=2))


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 200, 257], [300, 32768, 65535]], dtype=np.uint16)
    expected = np.repeat(np.rint(values / 257)[..., None], 3, axis=2)
    for ending in ("png", "tif", "pgm"):
        PIL.Image.fromarray(values).save(tmp_path / f"scan.{ending}")
        _close(decode(tmp_path / f"scan.{ending}"), expected)
    dark = (values // 300).astype(np.uint16)  # a dark scan stays dark
    PIL.Image.fromarray(dark).save(tmp_path / "dark.png")
    _close(decode(tmp_path / "dark.png"), np.repeat(np.rint(dark / 257)[..., None], 3, axis=2))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 128, 255]], dtype=np.int32), [0, 128, 255]),
        (np.array([[-5, 300, 65535]], dtype=np.int32), [0, 1, 255]),
        (np.array([[0, 500_000, 1_000_000]], dtype=np.int32), [0, 128, 255]),
        (np.array([[0, 0.5, 1]], dtype=np.float32), [0, 128, 255]),
        (np.array([[0, 128, 254.4]], dtype=np.float32), [0, 128, 254]),
        (np.array([[np.nan, 257, 65535]], dtype=np.float32), [0, 1, 255]),
        (np.array([[-np.inf, 0, np.inf]], dtype=np.float32), [0, 0, 0]),
    ],
)
def test_thirty_two_bits_and_floats(values: npt.NDArray[np.generic], expected: list[int], tmp_path: Path) -> None:
    PIL.Image.fromarray(values).save(tmp_path / "wide.tif")
    _close(decode(tmp_path / "wide.tif"), [[(grey, grey, grey) for grey in expected]], within=1)


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif", "avif", "mpo"])
def test_animations_give_their_first_frame(ending: str, tmp_path: Path) -> None:
    frames = [PIL.Image.new("RGB", (16, 16), colour) for colour in ("red", "lime", "blue")]
    frames[0].save(tmp_path / f"film.{ending}", save_all=True, append_images=frames[1:])
    with PIL.Image.open(tmp_path / f"film.{ending}") as film:
        assert getattr(film, "n_frames", 1) == 3
    _close(decode(tmp_path / f"film.{ending}"), np.full((16, 16, 3), (255, 0, 0)), within=4)


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "L", "RGBX", "RGBa"])
def test_pillow_images_of_other_modes(mode: str) -> None:
    source = PIL.Image.new("RGBA" if mode == "RGBa" else "RGB", (3, 2), "white")
    _close(decode(source.convert(mode)), np.full((2, 3, 3), 255), within=1)


def test_an_upright_rgb_image_is_not_copied() -> None:
    image = PIL.Image.new("RGB", (3, 2))
    assert decode(image) is image


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "TIFF", "BMP", "JPEG2000", "AVIF"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_truncated_files_are_never_completed(kind: str, share: float, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / "photo.jpg"
    PIL.Image.fromarray(noise).save(path, kind)
    whole = path.read_bytes()
    decode(path)
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UnreadableImage):
        decode(path)


@pytest.mark.parametrize("missing", [2, 3, 40, 500])
def test_a_truncated_jpeg_says_so(missing: int, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / "photo.jpg"
    PIL.Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(UnreadableImage, match=r"^truncated JPEG: image file is truncated"):
        decode(path)


def test_reasons(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("I am not an image at all.")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "head.jpg").write_bytes(b"\xff\xd8\xff\xe0")
    reasons = {
        "empty.jpg": "empty file",
        "text.jpg": "not an image",
        "folder.jpg": "a folder, not a file",
        "gone.jpg": "no such file",
        "head.jpg": "damaged or truncated JPEG",
    }
    for name, reason in reasons.items():
        with pytest.raises(UnreadableImage) as caught:
            decode(tmp_path / name)
        assert str(caught.value).startswith(reason)
        assert str(tmp_path) not in str(caught.value)


def _png(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def test_decompression_bombs_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bomb.png").write_bytes(_png(30_000, 30_000))
    with pytest.raises(UnreadableImage, match=r"too large: .*900000000 pixels"):
        decode(tmp_path / "bomb.png")


def test_formats_that_start_programs_are_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "figure.jpg"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    with PIL.Image.open(path) as image:
        assert image.format == "EPS"
    with pytest.raises(UnreadableImage, match="not an image"):
        decode(path)
    with pytest.raises(UnreadableImage, match="not an image"):
        open_bytes(path.read_bytes())
    assert not {"EPS", "WMF", "PDF", "FPX"} & set(FORMATS)


_SEEDS: dict[str, bytes] = {}


def _seed_file(kind: str) -> bytes:
    if kind not in _SEEDS:
        with tempfile.TemporaryFile() as file:
            ramp = np.arange(20 * 20 * 3, dtype=np.uint16).reshape(20, 20, 3).astype(np.uint8)
            PIL.Image.fromarray(ramp).save(file, kind)
            file.seek(0)
            _SEEDS[kind] = file.read()
    return _SEEDS[kind]


@settings(max_examples=150, deadline=None)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"]),
    changes=st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=8),
    end=st.integers(0, 5000),
)
def test_damage_of_any_kind_gives_a_picture_or_a_reason(kind: str, changes: list[tuple[int, int]], end: int) -> None:
    data = bytearray(_seed_file(kind))
    for place, value in changes:
        data[place % len(data)] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x"
        path.write_bytes(data[: max(1, end)])
        try:
            image = decode(path)
        except UnreadableImage as error:
            reason = str(error)
        else:
            reason = image.mode
        assert reason == "RGB" or reason.split()[0] in ("truncated", "damaged", "not", "too")


def test_no_file_stays_open(scene: Array, tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("open files are counted in /proc")
    frames = [PIL.Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    PIL.Image.fromarray(scene).save(tmp_path / "a.png")
    PIL.Image.fromarray(scene).save(tmp_path / "a.bmp")
    frames[0].save(tmp_path / "film.gif", save_all=True, append_images=frames[1:])
    (tmp_path / "bad.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    before = len(list(descriptors.iterdir()))
    images = [decode(tmp_path / name) for name in ("a.png", "a.bmp", "film.gif")]
    with pytest.raises(UnreadableImage):
        decode(tmp_path / "bad.png")
    assert len(list(descriptors.iterdir())) == before
    gc.collect()  # an open file would warn here, and warnings are errors
    assert np.asarray(images[1]).sum() == scene.sum()  # pixels outlive the file


def test_threads_decode_side_by_side(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.{'jpg' if number % 2 else 'gif'}" for number in range(40)]
    for path in paths:
        PIL.Image.fromarray(rng.integers(0, 256, (50, 40, 3), dtype=np.uint8)).save(path)
    alone = [digest(decode(path)) for path in paths]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda path: digest(decode(path)), paths * 3))
    assert together == alone * 3


def test_the_placeholder_of_hymenoptera(assets: Path) -> None:
    path = assets / "data" / "hymenoptera" / "train" / "ants" / "imageNotFound.gif"
    with PIL.Image.open(path) as image:
        _close(decode(path), np.asarray(image.convert("RGB")))


def test_real_photographs_are_what_pillow_reads(assets: Path) -> None:
    for path in sorted((assets / "data" / "imagenet_samples").iterdir())[::10]:
        with PIL.Image.open(path) as image:
            _close(decode(path), np.asarray(image.convert("RGB")))
            assert measure(path) == image.size


def test_digest_of_a_file_is_the_sha256_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    PIL.Image.new("RGB", (4, 4)).save(path)
    assert digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(UnreadableImage, match="no such file"):
        digest(tmp_path / "gone.jpg")
    with pytest.raises(UnreadableImage, match="a folder"):
        digest(tmp_path)


def test_digest_of_an_image_depends_on_what_is_seen() -> None:
    grey = PIL.Image.new("L", (8, 2), 7)
    assert digest(grey) == digest(grey.convert("RGB"))
    assert digest(grey) != digest(PIL.Image.new("L", (4, 4), 7))
    assert digest(grey) != digest(PIL.Image.new("L", (8, 2), 8))
    red, blue = (PIL.Image.new("P", (2, 2)) for _ in range(2))
    red.putpalette([255, 0, 0])
    blue.putpalette([0, 0, 255])
    assert digest(red) != digest(blue)


def test_list_images(tmp_path: Path) -> None:
    for name in ("b/2.JPG", "b/10.jpeg", "a.png", "b/c c/ü,1.tiff", "x.jpg/y.gif", "notes.txt", "b/Thumbs.db"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    for hidden in (".ipynb_checkpoints/a.png", "b/.hidden.png", "__MACOSX/._a.png"):
        path = tmp_path / hidden
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    images, others = list_images(tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in images]
    assert names == ["a.png", "b/10.jpeg", "b/2.JPG", "b/c c/ü,1.tiff", "x.jpg/y.gif"]
    assert others == 2


def test_list_images_survives_links(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "1.png").touch()
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a", target_is_directory=True)
    (tmp_path / "again").symlink_to(tmp_path / "a" / "b", target_is_directory=True)
    (tmp_path / "dangling.png").symlink_to(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe.png")
    names = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)[0]]
    assert names == ["a/b/1.png", "again/1.png", "dangling.png"]
    with pytest.raises(UnreadableImage, match="no such file"):
        decode(tmp_path / "dangling.png")


def test_list_images_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(TlkitError, match=r"cannot list .*gone"):
        list_images(tmp_path / "gone")


def test_extensions_are_those_that_pillow_gives_to_the_formats() -> None:
    PIL.Image.init()
    known = {ending for ending, kind in PIL.Image.registered_extensions().items() if kind in FORMATS}
    assert known - EXTENSIONS <= {".pfm", ".j2c", ".jpc", ".jpf", ".avifs"}  # rarely single images
    assert known >= EXTENSIONS
