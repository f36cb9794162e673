"""Codes against plain timm on the same pixels, and the store that computes nothing twice and serves nothing stale."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from tlkit_plugins.tiny import FOLDER

from tlkit import registry
from tlkit.backbones import Backbone
from tlkit.codes import Cache, CodesStore, cache_at, known_taps
from tlkit.data import decode, digest
from tlkit.errors import UsageError


def _tiny() -> Backbone:
    backbone: Backbone = registry.build("backbone", {"name": "tiny"})
    return backbone


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    return _tiny()


@pytest.fixture(scope="module")
def scans() -> list[Image.Image]:
    return [Image.fromarray((scan * 15).astype(np.uint8)) for scan in load_digits().images[:20]]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return cache_at(dir=str(tmp_path / "cache"))


@pytest.fixture
def files(tmp_path: Path, scans: list[Image.Image]) -> list[Path]:
    paths = [tmp_path / f"{row}.png" for row in range(3)]
    for path, scan in zip(paths, scans, strict=False):
        scan.save(path)
    return paths


@pytest.fixture
def with_bad_file(files: list[Path]) -> list[Path]:
    files[1].write_text("no image")
    return files


def _plain_timm(folder: Path, images: Sequence[Image.Image]) -> NDArray[np.float32]:
    """What one writes without tlkit: timm's model, timm's transform, the activations before the classifier."""
    import timm
    import timm.data

    model: Any = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0).eval()
    library: Any = timm.data
    transform = library.create_transform(**library.resolve_model_data_config(model), is_training=False)
    with torch.inference_mode():
        codes: NDArray[np.float32] = model(torch.stack([transform(image) for image in images])).numpy()
    return codes


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_codes_are_what_plain_timm_computes(
    tiny: Backbone, scans: list[Image.Image], cache: Cache, engine: str
) -> None:
    expected = _plain_timm(FOLDER, [scan.convert("RGB") for scan in scans])
    codes = CodesStore(cache, engine=engine, batch_size=7).codes(tiny, scans, ["pool"]).values["pool"]  # type: ignore[arg-type]
    assert codes.dtype == np.float32
    np.testing.assert_allclose(codes, expected, rtol=1e-4, atol=1e-5)


def test_real_photographs_with_real_weights_match_plain_timm(assets: Path) -> None:
    weights = assets / "weights" / "mobilenetv2_100.keras_in1k"
    paths = sorted((assets / "data" / "hymenoptera" / "val" / "ants").iterdir())[:6]
    backbone = registry.build("backbone", {"name": "mobilenetv2_100", "weights": str(weights)})
    codes = CodesStore().codes(backbone, paths, ["blocks.2", "pool"]).values
    np.testing.assert_allclose(codes["pool"], _plain_timm(weights, [decode(p) for p in paths]), rtol=1e-4, atol=1e-4)
    assert codes["blocks.2"].shape == (6, 32)


def test_every_tap_in_one_pass_equals_each_alone(tiny: Backbone, scans: list[Image.Image]) -> None:
    taps = [tap.name for tap in tiny.taps]
    store = CodesStore(cache_at(max_gb=0), engine="torch")
    together = store.codes(tiny, scans, taps)
    assert together.concatenated().shape == (20, sum(tap.channels for tap in tiny.taps))
    np.testing.assert_array_equal(together.table(taps), together.concatenated())
    for tap in taps:
        alone = CodesStore(cache_at(max_gb=0), engine="torch").codes(tiny, scans, [tap])
        np.testing.assert_allclose(alone.values[tap], together.values[tap], rtol=1e-5, atol=1e-6)


def test_an_unreadable_file_costs_its_row_and_no_other(tiny: Backbone, with_bad_file: list[Path], cache: Cache) -> None:
    store = CodesStore(cache, engine="torch")
    missing = with_bad_file[0].with_name("gone.png")
    codes = store.codes(tiny, [*with_bad_file, missing], ["pool"])
    assert codes.errors.keys() == {1, 3}
    assert codes.errors[3] == "no such file"
    assert np.isnan(codes.values["pool"]).all(axis=1).tolist() == [False, True, False, True]
    good = store.codes(tiny, [with_bad_file[0], with_bad_file[2]], ["pool"]).values["pool"]
    np.testing.assert_array_equal(codes.values["pool"][[0, 2]], good)
    assert store.forwards == 2


def test_all_unreadable(tiny: Backbone, with_bad_file: list[Path], cache: Cache) -> None:
    codes = CodesStore(cache).codes(tiny, [with_bad_file[1]], ["pool"])
    assert list(codes.errors) == [0]
    assert codes.concatenated().shape == (1, 0)


@pytest.mark.parametrize(
    "settings",
    [
        *({"batch_size": 0}, {"workers": 0}, {"device": "warp"}, {"device": "cuda:99"}, {"engine": "tensorrt"}),
        *({"precision": "int3"}, {"pooling": "sum"}, {"views": 0}, {"views": "six_crop"}),
    ],
    ids=str,
)
def test_wrong_settings_are_refused(settings: dict[str, Any]) -> None:
    (key,) = settings
    with pytest.raises(UsageError, match=f"codes.{key}={settings[key]}"):
        CodesStore(**settings)


def test_unknown_taps_are_refused(tiny: Backbone) -> None:
    assert known_taps(tiny, "pool", "tap") == ["pool"]
    with pytest.raises(UsageError, match=r"tap=poool: tiny has no tap 'poool'\. Did you mean 'pool'"):
        known_taps(tiny, "poool", "tap")
    for wrong in ([], ["pool", "pool"]):
        with pytest.raises(UsageError, match="at least one tap, and each once"):
            known_taps(tiny, wrong, "tap")


def test_the_store_computes_each_content_once(tiny: Backbone, scans: list[Image.Image], cache: Cache) -> None:
    store = CodesStore(cache, engine="torch", batch_size=4)
    first = store.codes(tiny, scans, ["pool"])
    assert store.forwards == len({digest(scan) for scan in scans})
    other = CodesStore(cache_at(dir=str(cache.dir)), engine="torch")  # as another process would open it
    again = other.codes(tiny, [*scans[3:5], scans[0]], ["pool"])
    assert (other.forwards, other.decoded) == (0, 0)
    np.testing.assert_array_equal(again.values["pool"], first.values["pool"][[3, 4, 0]])
    more = [Image.fromarray((scan * 15).astype(np.uint8)) for scan in load_digits().images[100:110]]
    other.codes(tiny, [*scans, *more], ["pool"])
    assert other.forwards == 10


def test_a_new_tap_is_computed_and_an_old_one_kept(tiny: Backbone, scans: list[Image.Image], cache: Cache) -> None:
    store = CodesStore(cache, engine="torch")
    pool = store.codes(tiny, scans, ["pool"]).values["pool"]
    both = store.codes(tiny, scans, ["layer2", "pool"]).values
    np.testing.assert_array_equal(both["pool"], pool)
    before = store.forwards
    store.codes(tiny, scans, ["layer2"])
    assert store.forwards == before


Change = Callable[[Backbone], Backbone]


def _weight(backbone: Backbone) -> Backbone:
    with torch.no_grad():
        next(backbone.module.parameters()).flatten()[0] += 1
    return backbone


def _eps(backbone: Backbone) -> Backbone:
    next(part for part in backbone.module.modules() if isinstance(part, torch.nn.BatchNorm2d)).eps *= 1000
    return backbone


def _preprocess(**changes: Any) -> Change:  # noqa: ANN401
    return lambda backbone: replace(backbone, preprocess=replace(backbone.preprocess, **changes))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(_weight, id="one weight"),
        pytest.param(_eps, id="BatchNorm eps"),
        pytest.param(_preprocess(crop_pct=0.5), id="crop_pct"),
        pytest.param(_preprocess(interpolation="bilinear"), id="interpolation"),
        pytest.param(_preprocess(mean=(0.1, 0.2, 0.3)), id="mean"),
        pytest.param(_preprocess(std=(0.1, 0.2, 0.3)), id="std"),
        pytest.param(_preprocess(input_size=(3, 32, 32)), id="input_size"),
    ],
)
def test_a_changed_network_or_preprocess_is_never_served_stale(change: Change, cache: Cache, assets: Path) -> None:
    photos = sorted((assets / "data" / "imagenet_samples").iterdir())[:4]
    backbone = _tiny()
    store = CodesStore(cache, engine="torch")
    old = store.codes(backbone, photos, ["pool"]).values["pool"]
    changed = change(backbone)
    new = store.codes(changed, photos, ["pool"]).values["pool"]
    assert store.forwards == 8
    assert not np.allclose(old, new)
    fresh = CodesStore(cache_at(max_gb=0), engine="torch").codes(changed, photos, ["pool"]).values["pool"]
    np.testing.assert_allclose(new, fresh, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "settings",
    [
        *({"precision": "bf16"}, {"pooling": "max"}, {"views": "flip"}, {"views": 3}, {"engine": "openvino"}),
        {"views": 3, "view_seed": 7},
    ],
    ids=str,
)
def test_other_settings_are_never_served_stale(
    settings: dict[str, Any], tiny: Backbone, scans: list[Image.Image], cache: Cache
) -> None:
    CodesStore(cache, engine="torch").codes(tiny, scans, ["layer2"])
    CodesStore(cache, engine="torch", views=3).codes(tiny, scans, ["layer2"])
    wanted: dict[str, Any] = {"engine": "torch", **settings}
    store = CodesStore(cache, **wanted)
    found = store.codes(tiny, scans, ["layer2"])
    fresh = CodesStore(cache_at(max_gb=0), **wanted).codes(tiny, scans, ["layer2"])
    np.testing.assert_allclose(found.values["layer2"], fresh.values["layer2"], rtol=1e-4, atol=1e-5)
    assert len(found.values["layer2"]) == len(scans) * found.views
    assert store.forwards == {"view_seed": 2 * 20, "views": 20 if settings.get("views") == "flip" else 0}.get(
        [*settings][-1], 20
    )


def test_a_changed_file_is_never_served_stale(tiny: Backbone, files: list[Path], cache: Cache) -> None:
    """Not even one of the same size and with its old time of change."""
    store = CodesStore(cache, engine="torch")
    old = store.codes(tiny, files, ["pool"]).values["pool"]
    times, data = files[0].stat(), files[0].read_bytes()
    padded = files[2].read_bytes().ljust(len(data), b"\0")[: len(data)]
    files[0].write_bytes(padded if len(files[2].read_bytes()) <= len(data) else data[:-12] + b"x" * 12)
    os.utime(files[0], ns=(times.st_atime_ns, times.st_mtime_ns))
    for again in (store, CodesStore(cache, engine="torch")):
        new = again.codes(tiny, files, ["pool"]).values["pool"]
        assert not np.allclose(old[0], new[0], equal_nan=True)
        np.testing.assert_array_equal(old[1:], new[1:])


def test_a_flipped_bit_is_found_on_load_and_computed_again(
    tiny: Backbone, scans: list[Image.Image], cache: Cache
) -> None:
    first = CodesStore(cache, engine="torch").codes(tiny, scans, ["pool"]).values["pool"]
    (path,) = cache.codes.folder.glob("*.f32")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    store = CodesStore(cache_at(dir=str(cache.dir)), engine="torch")
    np.testing.assert_allclose(store.codes(tiny, scans, ["pool"]).values["pool"], first, rtol=1e-5, atol=1e-6)
    assert store.forwards == len({digest(scan) for scan in scans})


def test_views_of_an_image_stand_below_each_other(tiny: Backbone, assets: Path) -> None:
    photos = [decode(path) for path in sorted((assets / "data" / "imagenet_samples").iterdir())[:3]]
    square = [photo.resize((64, 64)) for photo in photos]
    mirrored = [photo.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for photo in square]
    plain = CodesStore(cache_at(max_gb=0), engine="torch")
    both = CodesStore(cache_at(max_gb=0), engine="torch", views="flip").codes(tiny, square, ["pool"])
    values = both.values["pool"].reshape(3, 2, -1)
    for view, images in enumerate((square, mirrored)):
        expected = plain.codes(tiny, images, ["pool"]).values["pool"]
        np.testing.assert_allclose(values[:, view], expected, rtol=1e-4, atol=1e-4)
    assert both.rows(np.array([2, 0])).tolist() == [4, 5, 0, 1]
