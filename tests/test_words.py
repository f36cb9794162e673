"""Settings that are spelled as words come back from Hydra as they were."""

import shlex
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from tlkit.config import admit
from tlkit.words import words


@pytest.mark.parametrize(
    "value",
    [
        "my photos",
        "2024",
        "null",
        ".5",
        "a,b",
        "runs/0-seed=1",
        'it\'s "x"',
        "a\\",
        'a\\"b',
        "é",
        "",
        " a",
        "[x]",
        0.123456789,
        1e-05,
        True,
        None,
        ["a", None, ["b", 2]],
        {"name": "vgg16", "weights": None, "sizes": [1, 2]},
    ],
)
def test_values_come_back_as_they_were(value: Any) -> None:  # noqa: ANN401
    for told in (value, [value, "b"]):
        (word,) = admit(shlex.split(words(strategy={"x": told})))
        assert OverridesParser.create().parse_override(word).value() == told
