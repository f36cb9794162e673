"""Views against torchvision's own crops, and that they never change."""

import hashlib
import random
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray
from torchvision.transforms import FiveCrop, RandomResizedCrop, TenCrop

from tlkit.data import Preprocess
from tlkit.data.views import all_view_pixels, random_box, view_names, view_pixels
from tlkit.errors import UsageError

KEY = bytes(range(32))


def preprocess(side: int = 64, **changes: Any) -> Preprocess:  # noqa: ANN401
    values = {"input_size": (3, side, side), "interpolation": "bicubic", "crop_pct": 0.875, "mean": (0.4, 0.5, 0.6)}
    return Preprocess(**{**values, "std": (0.2, 0.2, 0.2), **changes})


def photo(width: int = 173, height: int = 131) -> PIL.Image.Image:
    """Not symmetric in any way, and smooth enough to tell places apart."""
    y, x = np.mgrid[:height, :width]
    return PIL.Image.fromarray(np.stack([x * 255 // width, y * 255 // height, (x * y) % 256], 2).astype(np.uint8))


def arrays(images: Any) -> list[NDArray[np.uint8]]:  # noqa: ANN401
    return [np.asarray(image) for image in images]


@pytest.mark.parametrize("changes", [{}, {"interpolation": "bilinear", "crop_pct": 0.7}, {"crop_mode": "squash"}])
@pytest.mark.parametrize("size", [(173, 131), (131, 174), (64, 64), (30, 400)])
def test_the_plain_view_is_what_the_preprocess_gives(changes: dict[str, Any], size: tuple[int, int]) -> None:
    own, image = preprocess(**changes), photo(*size)
    np.testing.assert_array_equal(view_pixels(own, image, "center", KEY), own.pixels(image))


@pytest.mark.parametrize("size", [(173, 131), (131, 174), (64, 64), (90, 400)])
def test_five_and_ten_crop_are_torchvisions(size: tuple[int, int]) -> None:
    own = preprocess()
    resized = own.resize(photo(*size))
    *corners, center = arrays(FiveCrop(64)(resized))
    five = all_view_pixels(own, photo(*size), view_names("five_crop"), KEY)
    for found, expected in zip(five, [center, *corners], strict=True):
        np.testing.assert_array_equal(found, expected)
    theirs = arrays(TenCrop(64)(resized))
    ten = all_view_pixels(own, photo(*size), view_names("ten_crop"), KEY)
    for found, expected in zip(ten, [theirs[4], *theirs[:4], theirs[9], *theirs[5:9]], strict=True):
        np.testing.assert_array_equal(found, expected)


def test_flip_is_the_image_and_its_mirror() -> None:
    plain, mirror = all_view_pixels(preprocess(), photo(), view_names("flip"), KEY)
    np.testing.assert_array_equal(plain, preprocess().pixels(photo()))
    # The resized image is 97 wide, so that the middle of its mirror image is a column beside that of the image.
    turned = photo().transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
    difference = mirror.astype(int) - preprocess().pixels(turned)
    assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("crop_mode", ["border", "center"])
def test_an_image_that_is_too_small_for_its_corners_gets_the_same_border(crop_mode: str) -> None:
    own = preprocess(crop_mode=crop_mode, crop_pct=1.0 if crop_mode == "border" else 1.4)
    views = dict(
        zip(view_names("ten_crop"), all_view_pixels(own, photo(200, 50), view_names("ten_crop"), KEY), strict=True)
    )
    assert all(pixels.shape == (64, 64, 3) for pixels in views.values())
    for view, pixels in views.items():
        np.testing.assert_array_equal(pixels[:8], views["center"][:8], err_msg=view)


def test_grey_networks_get_grey_views() -> None:
    own = preprocess(input_size=(1, 48, 64), mean=(0.5,), std=(0.2,), crop_mode="border", crop_pct=1.0)
    for pixels in all_view_pixels(own, photo(), (*view_names("ten_crop"), *view_names(3)), KEY):
        assert pixels.shape == (48, 64, 1)


def test_one_view_is_the_plain_one() -> None:
    assert view_names(1) == ("center",)


def test_random_views_are_fixed_for_ever() -> None:
    views = view_names(4, seed=5)
    assert views == ("center", "random-5-1", "random-5-2", "random-5-3")
    pixels = all_view_pixels(preprocess(), photo(), views, KEY)
    again = [view_pixels(preprocess(), photo(), view, KEY) for view in views]
    np.testing.assert_array_equal(pixels, again)
    # Written down: a cache of codes relies on it, over years and versions.
    boxes = [random_box(533, 400, random.Random(seed).random) for seed in range(3)]
    assert boxes == [(78, 5, 340, 391), (50, 95, 337, 276), (1, 0, 518, 400)]


def test_random_views_differ_between_images_seeds_and_numbers() -> None:
    drawn = [
        view_pixels(preprocess(), photo(), view, key).tobytes()
        for view in (*view_names(3, seed=0)[1:], *view_names(3, seed=1)[1:])
        for key in (KEY, KEY[::-1])
    ]
    assert len(set(drawn)) == len(drawn) == 8


def test_random_parts_follow_torchvisions_rule() -> None:
    draw = random.Random(0).random
    boxes = np.array([random_box(320, 240, draw) for _ in range(4000)])
    left, top, width, height = boxes.T
    assert (boxes >= 0).all()
    assert (left + width).max() == 320
    assert (top + height).max() == 240
    share, ratio = width * height / (320 * 240), width / height
    assert share.min() == pytest.approx(0.35, abs=0.01)
    assert share.max() > 0.97
    assert ratio.min() == pytest.approx(3 / 4, abs=0.02)
    assert ratio.max() == pytest.approx(4 / 3, abs=0.02)
    theirs = np.array([RandomResizedCrop.get_params(photo(320, 240), [0.35, 1], [3 / 4, 4 / 3]) for _ in range(4000)])
    ours = np.stack([top, left, height, width], 1)
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), rtol=0.05)
    np.testing.assert_allclose(ours.std(0), theirs.std(0), rtol=0.08)


@pytest.mark.parametrize("size", [(1000, 20), (20, 1000), (1, 1)])
def test_very_long_images_give_their_middle_as_torchvision_does(size: tuple[int, int]) -> None:
    top, left, height, width = RandomResizedCrop.get_params(photo(*size), [0.35, 1.0], [3 / 4, 4 / 3])
    assert random_box(*size, random.Random(0).random) == (left, top, width, height)


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_random_view_is_the_part_resized(mirrored: bool) -> None:
    for number in range(1, 20):
        seed = hashlib.sha256(f"random-0-{number} ".encode() + KEY).digest()
        draw = random.Random(int.from_bytes(seed)).random
        left, top, width, height = random_box(*photo().size, draw)
        if (draw() < 0.5) == mirrored:
            break
    else:
        pytest.fail("no such view")
    part = photo().crop((left, top, left + width, top + height)).resize((64, 64), PIL.Image.Resampling.BICUBIC)
    expected = np.asarray(part)[:, ::-1] if mirrored else np.asarray(part)
    np.testing.assert_array_equal(view_pixels(preprocess(), photo(), f"random-0-{number}", KEY), expected)


@pytest.mark.parametrize("wrong", [0, -1, "ten", "flipp", True, 2.5])
def test_wrong_numbers_of_views_are_refused(wrong: Any) -> None:  # noqa: ANN401
    with pytest.raises(UsageError, match=r"codes\.views="):
        view_names(wrong)
