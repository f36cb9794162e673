"""Parts of a row that weigh the same, whatever their width and loudness."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler, normalize

from tlkit.errors import UsageError
from tlkit.heads import load_head, save_head
from tlkit.heads.kinds import HEADS
from tlkit.heads.scaling import column_weights, rowwise

Codes = NDArray[np.float32]
PARTS = [3, 40]


def loud(n: int = 90) -> tuple[Codes, NDArray[np.str_]]:
    """Three columns that tell the classes apart, and forty loud ones that do not."""
    random = np.random.default_rng(0)
    labels = np.arange(n) % 3
    telling = random.normal(size=(n, 3)) + 2.5 * np.eye(3)[labels]
    codes = np.hstack([telling, 20 * random.normal(size=(n, 40))]).astype(np.float32)
    return codes, np.array(["a", "b", "c"])[labels]


@given(widths=st.lists(st.integers(1, 5), min_size=1, max_size=4), scale=st.sampled_from(["l2", "power"]))
def test_each_part_of_a_row_is_scaled_by_itself(widths: list[int], scale: Any) -> None:  # noqa: ANN401
    codes = np.random.default_rng(0).normal(size=(6, sum(widths)))
    rooted = np.sign(codes) * np.sqrt(np.abs(codes)) if scale == "power" else codes
    parts = np.split(rooted, np.cumsum(widths)[:-1], axis=1)
    expected = np.hstack([normalize(part) for part in parts]) / np.sqrt(len(widths))
    np.testing.assert_allclose(np.asarray(rowwise(codes, scale, widths)), expected, atol=1e-6)


@given(widths=st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_standardised_parts_have_equal_squared_lengths(widths: list[int]) -> None:
    squares = np.square(np.broadcast_to(column_weights(widths), sum(widths)))
    each = [part.sum() for part in np.split(squares, np.cumsum(widths)[:-1])]
    np.testing.assert_allclose(each, sum(widths) / len(widths))


@pytest.mark.parametrize("kind", sorted(HEADS))
def test_standard_scaling_is_that_of_weighed_columns(kind: str) -> None:
    codes, labels = loud()
    weighed = (StandardScaler().fit_transform(codes) * column_weights(PARTS)).astype(np.float32)
    values = {"C": 0.01, "alpha": 10.0, "k": 5}
    name = HEADS[kind].parameter
    settings: dict[str, Any] = {} if name is None else {name: values[name]}
    found = HEADS[kind](scale="standard", parts=PARTS, **settings).fit(codes, labels).decision_function(codes)
    expected = HEADS[kind](scale="none", **settings).fit(weighed, labels).decision_function(weighed)
    np.testing.assert_allclose(found, expected, rtol=5e-3, atol=5e-3)


@pytest.mark.parametrize("scale", ["standard", "l2", "power"])
def test_a_loud_part_does_not_drown_the_other(scale: str) -> None:
    codes, labels = loud()
    alone, weighed = (HEADS["svm"](scale=scale, parts=parts).fit(codes, labels) for parts in (None, PARTS))
    assert (weighed.cv_accuracy_ or 0) > (alone.cv_accuracy_ or 0) + 0.05


def test_a_saved_head_knows_its_parts(tmp_path: Path) -> None:
    codes, labels = loud()
    head = HEADS["svm"](scale="l2", parts=PARTS).fit(codes, np.unique(labels, return_inverse=True)[1])
    save_head(head, tmp_path)
    np.testing.assert_array_equal(load_head(tmp_path).predict_proba(codes), head.predict_proba(codes))


@pytest.mark.parametrize("parts", [[3, 41], [43, 0], [3.0, 40.0], [], "3,40"])
def test_parts_that_are_none_of_the_codes(parts: Any) -> None:  # noqa: ANN401
    with pytest.raises(UsageError, match="parts="):
        HEADS["ridge"](parts=parts).fit(*loud())
