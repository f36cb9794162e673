"""Heads on disk: the same bits back, and anything else refused with a reason."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from tlkit.errors import TlkitError
from tlkit.heads import HEADS, KNN, Head, LinearSVM, Ridge, load_head, save_head
from tlkit.heads.scaling import SCALES

Set = tuple[NDArray[np.float32], NDArray[np.int64]]
Damage = Callable[[Path], object]
NAMES = np.array(["zero", "ett", "два", "三", "four", "five", "six", "seven", "eight", "a/b\n"])


@pytest.fixture(scope="module")
def heads(digits: Set) -> dict[str, Head]:
    return {name: kind(cv=2).fit(digits[0][:200], NAMES[digits[1][:200]]) for name, kind in HEADS.items()}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("scale", SCALES)
def test_round_trip_is_bit_equal(name: str, scale: str, digits: Set, more_digits: Set, tmp_path: Path) -> None:
    head = HEADS[name](scale=scale, cv=2).fit(digits[0][:100], NAMES[digits[1][:100]])
    save_head(head, tmp_path / "new" / "model")
    loaded = load_head(tmp_path / "new" / "model")
    assert type(loaded) is type(head)
    assert sorted(p.name for p in (tmp_path / "new" / "model").iterdir()) == ["head.json", "head.safetensors"]
    np.testing.assert_array_equal(loaded.predict_proba(more_digits[0]), head.predict_proba(more_digits[0]))
    np.testing.assert_array_equal(loaded.decision_function(more_digits[0]), head.decision_function(more_digits[0]))
    np.testing.assert_array_equal(loaded.predict(more_digits[0]), head.predict(more_digits[0]))
    kept = {key: value for key, value in vars(head).items() if key.endswith("_") and key != "oof_scores_"}
    for key, value in kept.items():
        if key != "neighbours_":
            np.testing.assert_equal(getattr(loaded, key), value)
    assert set(vars(loaded)) == set(vars(head))
    assert loaded.oof_scores_ is None
    assert loaded.get_params() == head.get_params()


@pytest.mark.parametrize("C", [None, 0.1, (0.1, 1.0), [0.1, 1], np.array([0.1, 0.2])])
def test_every_kind_of_label_and_setting(digits: Set, C: float | Sequence[float] | None, tmp_path: Path) -> None:
    rows = np.concatenate([np.flatnonzero(digits[1] == 3)[:4], np.flatnonzero(digits[1] == 7)[:3]])
    digit = digits[1][rows]
    for labels in (digit, digit == 7, NAMES[digit].astype(object), digit.astype(float)):
        weight = {labels.tolist()[0]: 3, labels.tolist()[-1]: 0.5}
        fitted = LinearSVM(C=C, class_weight=weight).fit(digits[0][rows], labels)
        save_head(fitted, tmp_path)  # over the one before
        loaded = load_head(tmp_path)
        np.testing.assert_array_equal(loaded.predict(digits[0]), fitted.predict(digits[0]))
        assert loaded.get_params()["class_weight"] == weight


@pytest.mark.parametrize("name", HEADS)
def test_a_loaded_head_can_be_saved_and_fitted_again(
    name: str, heads: dict[str, Head], digits: Set, tmp_path: Path
) -> None:
    save_head(heads[name], tmp_path / "a")
    save_head(load_head(tmp_path / "a"), tmp_path / "b")
    for file in ("head.json", "head.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    again = load_head(tmp_path / "a").fit(digits[0][:200], NAMES[digits[1][:200]])
    np.testing.assert_array_equal(again.predict_proba(digits[0]), heads[name].predict_proba(digits[0]))


@pytest.mark.parametrize("name", HEADS)
def test_a_head_without_cross_validation(name: str, digits: Set, tmp_path: Path) -> None:
    rows = np.unique(digits[1], return_index=True)[1]
    head = HEADS[name]().fit(digits[0][rows], digits[1][rows])
    save_head(head, tmp_path)
    assert load_head(tmp_path).cv_accuracy_ is None
    np.testing.assert_array_equal(load_head(tmp_path).predict_proba(digits[0]), head.predict_proba(digits[0]))


def test_neighbours_that_are_read_from_disk_are_saved(
    digits: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "codes.npy", digits[0])
    expected = KNN(k=3, scale="l2").fit(*digits).predict_proba(digits[0])
    monkeypatch.setattr("tlkit.heads.rows._SMALL", 0)
    save_head(KNN(k=3, scale="l2").fit(np.load(tmp_path / "codes.npy", mmap_mode="r"), digits[1]), tmp_path / "model")
    (tmp_path / "codes.npy").unlink()
    np.testing.assert_array_equal(load_head(tmp_path / "model").predict_proba(digits[0]), expected)


def _edit(**changes: object) -> Damage:
    def edit(folder: Path) -> None:
        record = json.loads((folder / "head.json").read_text(encoding="utf-8"))
        (folder / "head.json").write_text(json.dumps(record | changes), encoding="utf-8")

    return edit


def _inside(part: str, **changes: object) -> Damage:
    def edit(folder: Path) -> None:
        record = json.loads((folder / "head.json").read_text(encoding="utf-8"))
        _edit(**{part: record[part] | changes})(folder)

    return edit


def _arrays(**changes: NDArray[Any]) -> Damage:
    def edit(folder: Path) -> None:
        save_file(load_file(folder / "head.safetensors") | changes, folder / "head.safetensors")
        _true_digest(folder)

    return edit


def _cut(folder: Path) -> None:
    data = (folder / "head.safetensors").read_bytes()
    (folder / "head.safetensors").write_bytes(data[:-8])


def _not_safetensors(folder: Path) -> None:
    (folder / "head.safetensors").write_bytes(b"\x80\x04 a pickle, perhaps")
    _true_digest(folder)


def _true_digest(folder: Path) -> None:
    _edit(sha256=hashlib.sha256((folder / "head.safetensors").read_bytes()).hexdigest())(folder)


WRONG_KIND = "missing or of the wrong kind"
NO_SENSE = "its settings make no sense"
FLAT = np.zeros((10, 64), dtype=np.float32)
DAMAGES: list[tuple[str, Damage, str]] = [
    ("svm", lambda folder: (folder / "head.json").unlink(), r"cannot read '.*head\.json': No such file"),
    ("svm", lambda folder: (folder / "head.safetensors").unlink(), r"cannot read '.*head\.safetensors': No such file"),
    ("svm", lambda folder: (folder / "head.json").write_text('{"format'), "not JSON"),
    ("svm", lambda folder: (folder / "head.json").write_bytes(b"\xff\xfe\x00"), "not JSON"),
    ("svm", lambda folder: (folder / "head.json").write_text("[1]"), "of format None"),
    ("svm", _edit(format="tlkit linear head 1"), "of format 'tlkit linear head 1'.*another program or version"),
    ("svm", _edit(kind="forest"), WRONG_KIND),
    ("svm", _edit(kind="knn"), WRONG_KIND),
    ("svm", _edit(extra=1), WRONG_KIND),
    ("svm", _edit(classes="abc"), WRONG_KIND),
    ("svm", _edit(classes=["only"]), WRONG_KIND),
    ("svm", _edit(classes=["twice"] * 10), WRONG_KIND),
    ("svm", _edit(classes=["mixed", 1]), WRONG_KIND),
    ("svm", _edit(classes=[[1], [2]]), WRONG_KIND),
    ("svm", _edit(settings={"C": 1, "evil": 2}), WRONG_KIND),
    ("svm", _edit(fitted={"predict_proba": "x"}), WRONG_KIND),
    ("svm", _inside("fitted", temperature_=0.0), WRONG_KIND),
    ("svm", _inside("fitted", temperature_=float("inf")), "not JSON .*Infinity"),
    ("svm", _inside("fitted", temperature_="1"), WRONG_KIND),
    ("svm", _inside("fitted", scale_="l3"), WRONG_KIND),
    ("svm", _inside("fitted", C_=None), WRONG_KIND),
    ("svm", _inside("fitted", cv_accuracy_="high"), WRONG_KIND),
    ("svm", _inside("fitted", cv_results_={"C": [1.0]}), WRONG_KIND),
    ("svm", _inside("fitted", convergence_=[]), WRONG_KIND),
    ("svm", _inside("settings", cv=0), f"{NO_SENSE} .cv=0"),
    ("svm", _inside("settings", class_weight={"evil": 1}), NO_SENSE),
    ("svm", _inside("settings", class_weight={"pairs": 3}), NO_SENSE),
    ("svm", _inside("settings", C={}), NO_SENSE),
    ("svm", _inside("settings", device=["cpu"]), NO_SENSE),
    ("svm", _edit(dimensions=63), r"holds .*not .*coef.*\(10, 63\)"),
    ("svm", _edit(classes=["a", "b"]), r"not .*coef.*\(2, 64\)"),
    ("svm", _cut, "damaged or not the file that 'head.json' beside it describes"),
    ("svm", _not_safetensors, "not a safetensors file"),
    ("svm", _arrays(weight=FLAT), "holds .*weight.*not"),
    ("ridge", _arrays(coef=FLAT.astype(np.float64)), "holds .*float64.*not"),
    ("prototype", _arrays(coef=FLAT + np.nan), "holds NaN or infinities"),
    ("knn", _inside("fitted", k_=1.5), WRONG_KIND),
    ("knn", _arrays(codes=np.zeros((200, 63), dtype=np.float32)), r"holds .*not .*\(200, 64\)"),
    ("knn", _arrays(labels=np.zeros(200, dtype=np.int64)), "labels that are not 0 to 9"),
    ("knn", _arrays(labels=np.arange(200)), "labels that are not 0 to 9"),
    ("knn", _arrays(spread=np.zeros(64, dtype=np.float32)), "not above 0"),
    ("knn", _arrays(weights=np.full(10, -1.0)), "not above 0"),
    ("knn", _arrays(codes=np.full((200, 64), np.inf, dtype=np.float32)), "holds NaN or infinities"),
]


@pytest.mark.parametrize(("name", "damage", "message"), DAMAGES)
def test_damage_is_explained(name: str, damage: Damage, message: str, heads: dict[str, Head], tmp_path: Path) -> None:
    save_head(heads[name], tmp_path)
    damage(tmp_path)
    with pytest.raises(TlkitError, match=message) as caught:
        load_head(tmp_path)
    assert str(tmp_path) in str(caught.value)


def test_half_a_new_head_beside_an_old_record_is_refused(
    heads: dict[str, Head], digits: Set, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_head(heads["svm"], tmp_path)

    def power_cut(path: Path, value: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tlkit.heads.storage.write_json", power_cut)
    with pytest.raises(KeyboardInterrupt):
        save_head(Ridge(alpha=1.0).fit(digits[0], NAMES[digits[1]]), tmp_path)
    with pytest.raises(TlkitError, match="damaged or not the file"):
        load_head(tmp_path)
