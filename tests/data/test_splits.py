"""Splits: what must hold for any data, and what happens where there is not enough of it."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tlkit.data import ImageData, prepare
from tlkit.data.manifest import manifest
from tlkit.data.splits import split_named
from tlkit.errors import TlkitError, UsageError


def _data(labels: list[int], groups: list[str] | None = None, split: list[str] | None = None) -> ImageData:
    n = len(labels)
    return ImageData(
        name="made",
        images=[Path(f"{row}.png") for row in range(n)],
        files=tuple(f"{row}.png" for row in range(n)),
        labels=np.array(labels, dtype=np.int64),
        classes=tuple("abcdefgh"[: max(labels, default=-1) + 1]),
        split=None if split is None else np.array(split),
        groups=None if groups is None else np.array(groups),
    )


def _of(data: ImageData) -> dict[str, str]:
    assert data.split is not None
    return dict(zip(data.files, data.split.tolist(), strict=True))


_labels = st.lists(st.integers(0, 3), min_size=2, max_size=120).map(lambda extra: [*range(4), *range(4), *extra])
_sizes = st.sampled_from([0.0, 0.1, 0.2, 0.25, 0.4])


@given(_labels, _sizes, _sizes, st.integers(0, 9))
def test_every_class_is_split_to_within_one_picture(labels: list[int], val: float, test: float, seed: int) -> None:
    assume(val + test > 0)
    data = prepare(_data(labels), seed, val_size=val, test_size=test)
    assert data.split is not None
    assert sum(len(data.rows(split)) for split in ("train", "val", "test")) == len(labels)
    for label, n in Counter(labels).items():
        held = Counter(data.split[data.labels == label].tolist())
        assert held["train"] >= 1
        for split, share in (("test", test), ("val", val)):
            if share:
                assert abs(held[split] - share * n) < 1
                assert held[split] >= 1 or n < 3
            else:
                assert held[split] == 0


@given(_labels, st.randoms(use_true_random=False), st.integers(0, 9))
def test_the_order_of_listing_does_not_matter(labels: list[int], random: object, seed: int) -> None:
    data = _data(labels)
    order = list(range(len(labels)))
    random.shuffle(order)  # type: ignore[attr-defined]
    assert _of(prepare(data, seed)) == _of(prepare(data.select(order), seed))


def test_seeds_differ_and_repeat() -> None:
    data = _data([0, 1] * 50)
    splits = [_of(prepare(data, seed)) for seed in (0, 1, 2, 0)]
    assert splits[0] == splits[3]
    assert splits[0] != splits[1] != splits[2] != splits[0]


def test_new_files_move_few_others() -> None:
    before = _of(prepare(_data([0, 1] * 50), 0))
    after = _of(prepare(_data([0, 1] * 55), 0))
    assert sum(after[file] != split for file, split in before.items()) <= 6


_members = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), min_size=1, max_size=150)


@settings(deadline=None)
@given(_members, st.integers(0, 5), _sizes)
def test_groups_stay_together(members: list[tuple[int, int]], seed: int, val: float) -> None:
    rows = [(label, f"own {label} {copy}") for label in range(3) for copy in range(3)]  # so that a split exists
    rows += [(label, f"g{group}") for label, group in members]
    data = prepare(_data([label for label, _ in rows], [group for _, group in rows]), seed, val_size=val)
    assert data.split is not None
    assert data.groups is not None
    for group in set(data.groups.tolist()):
        assert len(set(data.split[data.groups == group].tolist())) == 1
    assert set(data.labels[data.rows("train")].tolist()) == {0, 1, 2}


def test_many_small_groups_are_split_in_proportion(assets: Path) -> None:
    data = prepare(manifest(path=str(assets / "data" / "pollen" / "manifest.csv")), 0, val_size=0.1)
    for split, share in (("test", 0.2), ("val", 0.1)):
        held = np.bincount(data.labels[data.rows(split)]) / np.bincount(data.labels)
        np.testing.assert_allclose(held, share, atol=0.02)
    assert data.groups is not None
    train, test = (set(data.groups[data.rows(split)].tolist()) for split in ("train", "test"))
    assert not train & test


def test_small_classes() -> None:
    data = prepare(_data([0] * 20 + [1, 1] + [2]), 0)
    assert data.split is not None
    assert sorted(data.split[20:22].tolist()) == ["test", "train"]
    assert data.split[22] == "train"
    three = prepare(_data([0] * 20 + [1, 1, 1]), 0, val_size=0.1)
    assert three.split is not None
    assert sorted(three.split[20:].tolist()) == ["test", "train", "val"]


def test_few_large_groups_are_better_than_none() -> None:
    data = prepare(_data([0, 1] * 10, groups=["left"] * 10 + ["right"] * 10), 0, test_size=0.1)
    assert data.split_sizes() == "10 train, 10 test"


def test_nothing_can_be_held_out() -> None:
    with pytest.raises(TlkitError, match="no image can be held out for test without a class losing its last"):
        prepare(_data([0, 1]), 0)
    with pytest.raises(TlkitError, match=r"no whole group \(there are 2\) can be held out"):
        prepare(_data([0, 0, 1, 1], groups=["x", "x", "y", "y"]), 0)


@pytest.mark.parametrize("held_out", ["val", "test"])
def test_the_splits_of_a_source_are_kept(held_out: str) -> None:
    split = ["train", "train", held_out, held_out]
    data = prepare(_data([0, 1, 0, 1], split=split), 0, test_size=0.5)
    assert data.split is not None
    assert data.split.tolist() == split
    assert data.held_out == held_out


def test_a_source_with_train_only_is_split_and_val_is_cut_where_there_is_none() -> None:
    data = prepare(_data([0, 1] * 10, split=["train"] * 20), 0)
    assert (len(data.rows("train")), len(data.rows("test"))) == (16, 4)
    data = prepare(_data([0, 1] * 10, split=["train"] * 16 + ["test"] * 4), 0, val_size=0.25)
    assert (len(data.rows("train")), len(data.rows("val")), len(data.rows("test"))) == (12, 4, 4)
    assert data.rows("test").tolist() == [16, 17, 18, 19]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"test_size": 1.0}, r"data\.test_size=1\.0: give a share"),
        ({"val_size": -0.1}, r"data\.val_size=-0\.1"),
        ({"test_size": float("nan")}, r"data\.test_size=nan"),
        ({"val_size": 0.5, "test_size": 0.5}, "leave nothing to train on"),
        ({"test_size": 0.0}, "leave nothing to judge"),
    ],
)
def test_senseless_shares(sizes: dict[str, float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        prepare(_data([0, 1] * 10), 0, **sizes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (_data([]), "at least two classes, found none"),
        (_data([0, 0]), r"at least two classes, found a\."),
        (_data([0, 1, 2], split=["train", "train", "val"]), r"no training image of class c; .* are in: val\."),
        (_data([0, 1, 1], split=["val", "test", "val"]), r"of class a, b; .* are in: test, val\."),
        (_data([0, 2, 0, 2], split=["train", "train", "val", "val"]), r"of class b; .* are in: no split\."),
        (_data([0, 1], split=["train", "dev"]), "splits are train, val and test, got dev"),
    ],
)
def test_data_that_teaches_nothing(data: ImageData, message: str) -> None:
    with pytest.raises(TlkitError, match=message):
        prepare(data, 0)


def test_a_source_that_contradicts_itself() -> None:
    good = _data([0, 1, 0, 1])
    broken = [
        (ImageData("made", good.images, good.files, good.labels[:2], good.classes), "not of one length"),
        (ImageData("made", good.images, ("x",) * 4, good.labels, good.classes), "named more than once: x"),
        (ImageData("made", good.images, good.files, good.labels, ("b", "a")), "must differ and be sorted"),
        (ImageData("made", good.images, good.files, good.labels + 1, good.classes), "labels must be positions"),
    ]
    for data, message in broken:
        with pytest.raises(TlkitError, match=message):
            prepare(data, 0)


def test_on_error_is_handed_on() -> None:
    assert prepare(_data([0, 1] * 5), 0, on_error="raise").on_error == "raise"


def test_names_of_splits() -> None:
    words = ["train", "Training", "val", "valid", "VALIDATION", "dev", "test", "testing", "ants", ""]
    assert [split_named(word) for word in words] == ["train"] * 2 + ["val"] * 4 + ["test"] * 2 + [None] * 2


def test_a_split_of_its_own_seed() -> None:
    from tlkit.data.digits import digits

    whole = digits()
    splits = [prepare(whole, seed, split_seed=own).split for seed, own in ((1, None), (2, 1), (1, 2), (2, None))]
    assert all(split is not None for split in splits)
    same = [bool((splits[0] == split).all()) for split in splits]  # type: ignore[union-attr]
    assert same == [True, True, False, False]
    assert (splits[2] == splits[3]).all()  # type: ignore[union-attr]
