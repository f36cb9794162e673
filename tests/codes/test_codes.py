"""Codes against plain timm on the same pixels, and the store that does not compute twice."""

from collections.abc import Sequence
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
from tlkit.codes import CodesStore, extract, known_taps
from tlkit.data import decode, digest
from tlkit.errors import UsageError


@pytest.fixture(scope="module")
def tiny() -> Backbone:
    backbone: Backbone = registry.build("backbone", {"name": "tiny"})
    return backbone


@pytest.fixture(scope="module")
def scans() -> list[Image.Image]:
    return [Image.fromarray((scan * 15).astype(np.uint8)) for scan in load_digits().images[:20]]


@pytest.fixture
def with_bad_file(tmp_path: Path, scans: list[Image.Image]) -> list[Path]:
    paths = [tmp_path / f"{row}.png" for row in range(3)]
    for path, scan in zip(paths, scans, strict=False):
        scan.save(path)
    paths[1].write_text("no image")
    return paths


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


def test_codes_are_what_plain_timm_computes(tiny: Backbone, scans: list[Image.Image]) -> None:
    expected = _plain_timm(FOLDER, [scan.convert("RGB") for scan in scans])
    codes = extract(tiny, scans, ["pool"], batch_size=7).values["pool"]
    assert codes.dtype == np.float32
    np.testing.assert_allclose(codes, expected, rtol=1e-4, atol=1e-5)


def test_real_photographs_with_real_weights_match_plain_timm(assets: Path) -> None:
    weights = assets / "weights" / "mobilenetv2_100.keras_in1k"
    paths = sorted((assets / "data" / "hymenoptera" / "val" / "ants").iterdir())[:6]
    backbone = registry.build("backbone", {"name": "mobilenetv2_100", "weights": str(weights)})
    codes = extract(backbone, paths, ["blocks.2", "pool"]).values
    np.testing.assert_allclose(codes["pool"], _plain_timm(weights, [decode(p) for p in paths]), rtol=1e-4, atol=1e-5)
    assert codes["blocks.2"].shape == (6, 32)


def test_every_tap_in_one_pass_equals_each_alone(tiny: Backbone, scans: list[Image.Image]) -> None:
    taps = [tap.name for tap in tiny.taps]
    together = extract(tiny, scans, taps)
    assert together.concatenated().shape == (20, sum(tap.channels for tap in tiny.taps))
    for tap in taps:
        np.testing.assert_array_equal(extract(tiny, scans, [tap]).values[tap], together.values[tap])


def test_an_unreadable_file_costs_its_row_and_no_other(tiny: Backbone, with_bad_file: list[Path]) -> None:
    codes = extract(tiny, with_bad_file, ["pool"])
    assert list(codes.errors) == [1]
    assert np.isnan(codes.values["pool"]).all(axis=1).tolist() == [False, True, False]
    good = extract(tiny, [with_bad_file[0], with_bad_file[2]], ["pool"]).values["pool"]
    np.testing.assert_array_equal(codes.values["pool"][[0, 2]], good)


def test_all_unreadable(tiny: Backbone, with_bad_file: list[Path]) -> None:
    codes = CodesStore().codes(tiny, [with_bad_file[1]], ["pool"])
    assert list(codes.errors) == [0]
    assert codes.concatenated().shape == (1, 0)


@pytest.mark.parametrize("settings", [{"batch_size": 0}, {"workers": 0}, {"device": "warp"}, {"device": "cuda:99"}])
def test_wrong_settings_are_refused(tiny: Backbone, scans: list[Image.Image], settings: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        extract(tiny, scans, ["pool"], **settings)  # type: ignore[arg-type]


def test_unknown_taps_are_refused(tiny: Backbone) -> None:
    assert known_taps(tiny, "pool", "tap") == ["pool"]
    with pytest.raises(UsageError, match=r"tap=poool: tiny has no tap 'poool'\. Did you mean 'pool'"):
        known_taps(tiny, "poool", "tap")
    for wrong in ([], ["pool", "pool"]):
        with pytest.raises(UsageError, match="at least one tap, and each once"):
            known_taps(tiny, wrong, "tap")


def test_the_store_computes_each_content_once(tiny: Backbone, scans: list[Image.Image], tmp_path: Path) -> None:
    store = CodesStore(batch_size=4)
    first = store.codes(tiny, scans, ["pool"])
    assert store.forwards == len({digest(scan) for scan in scans})
    before = store.forwards
    again = store.codes(tiny, [*scans[3:5], scans[0]], ["pool"])
    assert store.forwards == before
    np.testing.assert_array_equal(again.values["pool"], first.values["pool"][[3, 4, 0]])
    path = tmp_path / "scan.png"
    scans[0].save(path)
    old = store.codes(tiny, [path], ["pool"]).values["pool"]
    scans[1].save(path)
    new = store.codes(tiny, [path], ["pool"]).values["pool"]
    np.testing.assert_allclose(old[0], first.values["pool"][0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(new[0], first.values["pool"][1], rtol=1e-5, atol=1e-6)


def test_the_store_remembers_what_is_unreadable(tiny: Backbone, with_bad_file: list[Path]) -> None:
    store = CodesStore()
    missing = with_bad_file[0].with_name("gone.png")
    for _ in range(2):
        codes = store.codes(tiny, [*with_bad_file, missing], ["pool"])
        assert sorted(codes.errors) == [1, 3]
    assert store.forwards == 2


def test_written_codes_can_be_read_with_numpy_and_pandas(tmp_path: Path) -> None:
    import pandas as pd

    from tlkit import workflow

    workflow.extract(
        data={"name": "digits"},
        backbone={"name": "tiny"},
        taps="pool",
        out=str(tmp_path / "codes"),
        codes={"batch_size": 128},
        seed=1,
    )
    index = pd.read_parquet(tmp_path / "codes" / "index.parquet")
    values = np.load(tmp_path / "codes" / "pool.npy", allow_pickle=False)
    assert index.columns.tolist() == ["file", "label", "split", "error"]
    assert values.dtype == np.float32
    assert len(index) == len(values) == 1797
    assert index["label"].tolist() == [str(target) for target in load_digits().target]
    assert set(index["split"]) == {"train", "test"}
