"""Heads on disk: the same bits back, and anything else refused with a reason."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import save_file

from tlkit.errors import TlkitError
from tlkit.heads import LinearSVM, load_head, save_head

Set = tuple[NDArray[np.float32], NDArray[np.int64]]
NAMES = np.array(["zero", "ett", "два", "三", "four", "five", "six", "seven", "eight", "a/b\n"])


@pytest.fixture(scope="module")
def head(digits: Set) -> LinearSVM:
    return LinearSVM(C=[0.001, 0.01], cv=3).fit(digits[0], NAMES[digits[1]])


def test_round_trip_is_bit_equal(head: LinearSVM, more_digits: Set, tmp_path: Path) -> None:
    save_head(head, tmp_path / "new" / "model")
    loaded = load_head(tmp_path / "new" / "model")
    assert sorted(p.name for p in (tmp_path / "new" / "model").iterdir()) == ["head.json", "head.safetensors"]
    np.testing.assert_array_equal(loaded.predict_proba(more_digits[0]), head.predict_proba(more_digits[0]))
    np.testing.assert_array_equal(loaded.predict(more_digits[0]), head.predict(more_digits[0]))
    for name in ("classes_", "C_", "temperature_", "cv_results_", "cv_accuracy_", "n_features_in_"):
        np.testing.assert_equal(getattr(loaded, name), getattr(head, name))
    assert loaded.get_params() == head.get_params()


@pytest.mark.parametrize("C", [None, 0.1, (0.1, 1.0), [0.1, 1]])
def test_every_kind_of_label_and_setting(digits: Set, C: float | Sequence[float] | None, tmp_path: Path) -> None:
    rows = np.concatenate([np.flatnonzero(digits[1] == 3)[:4], np.flatnonzero(digits[1] == 7)[:3]])
    for labels in (digits[1][rows], digits[1][rows] == 7, NAMES[digits[1][rows]].astype(object)):
        fitted = LinearSVM(C=C).fit(digits[0][rows], labels)
        save_head(fitted, tmp_path)  # over the one before
        np.testing.assert_array_equal(load_head(tmp_path).predict(digits[0]), fitted.predict(digits[0]))


def test_a_loaded_head_can_be_saved_and_fitted_again(head: LinearSVM, digits: Set, tmp_path: Path) -> None:
    save_head(head, tmp_path / "a")
    save_head(load_head(tmp_path / "a"), tmp_path / "b")
    for name in ("head.json", "head.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    again = load_head(tmp_path / "a").fit(digits[0], NAMES[digits[1]])
    np.testing.assert_array_equal(again.coef_, head.coef_)


def test_a_head_without_cross_validation(digits: Set, tmp_path: Path) -> None:
    rows = np.unique(digits[1], return_index=True)[1]
    save_head(LinearSVM().fit(digits[0][rows], digits[1][rows]), tmp_path)
    assert load_head(tmp_path).cv_accuracy_ is None


def _edit(**changes: object) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        record = json.loads((folder / "head.json").read_text(encoding="utf-8"))
        (folder / "head.json").write_text(json.dumps(record | changes), encoding="utf-8")

    return edit


def _cut(folder: Path) -> None:
    data = (folder / "head.safetensors").read_bytes()
    (folder / "head.safetensors").write_bytes(data[:-8])


def _foreign_arrays(folder: Path) -> None:
    save_file({"weight": np.zeros((3, 3))}, folder / "head.safetensors")
    _true_digest(folder)


def _not_safetensors(folder: Path) -> None:
    (folder / "head.safetensors").write_bytes(b"\x80\x04 a pickle, perhaps")
    _true_digest(folder)


def _true_digest(folder: Path) -> None:
    import hashlib

    _edit(sha256=hashlib.sha256((folder / "head.safetensors").read_bytes()).hexdigest())(folder)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "head.json").unlink(), r"cannot read '.*head\.json': No such file"),
        (lambda folder: (folder / "head.safetensors").unlink(), r"cannot read '.*head\.safetensors': No such file"),
        (lambda folder: (folder / "head.json").write_text('{"format'), "not JSON"),
        (lambda folder: (folder / "head.json").write_bytes(b"\xff\xfe\x00"), "not JSON"),
        (lambda folder: (folder / "head.json").write_text("[1]"), "of format None"),
        (_edit(format="other 7"), "of format 'other 7'.*another program or version"),
        (_edit(classes="abc"), "missing or of the wrong kind"),
        (_edit(classes=["only"]), "missing or of the wrong kind"),
        (_edit(settings={"C": 1, "evil": 2}), "missing or of the wrong kind"),
        (_edit(fitted={"predict_proba": "x"}), "missing or of the wrong kind"),
        (_edit(dimensions=63), r"holds .*not coef \(10, 63\)"),
        (_edit(classes=["a", "b"]), r"not coef \(2, 64\)"),
        (_cut, "damaged or not the file that 'head.json' beside it describes"),
        (_foreign_arrays, r"holds .*weight.*not coef"),
        (_not_safetensors, "not a safetensors file"),
    ],
)
def test_damage_is_explained(head: LinearSVM, damage: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    save_head(head, tmp_path)
    damage(tmp_path)
    with pytest.raises(TlkitError, match=message) as caught:
        load_head(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_half_a_new_head_beside_an_old_record_is_refused(
    head: LinearSVM, digits: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_head(head, tmp_path)

    def power_cut(path: Path, value: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tlkit.heads.storage.write_json", power_cut)
    with pytest.raises(KeyboardInterrupt):
        save_head(LinearSVM(C=1.0).fit(digits[0], NAMES[digits[1]]), tmp_path)
    with pytest.raises(TlkitError, match="damaged or not the file"):
        load_head(tmp_path)
