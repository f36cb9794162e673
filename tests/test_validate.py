"""Settings against signatures."""

from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlkit import validate, workflow
from tlkit.errors import UsageError


def _settings(**changes: Any) -> dict[str, Any]:  # noqa: ANN401
    config = {
        "data": {"name": "digits"},
        "backbone": {"name": "tiny"},
        "strategy": {"name": "linear_probe"},
        "codes": {},
        "cache": {},
        "trainer": {},
        "seed": 1,
    }
    return {**config, **changes}


def test_the_default_configuration_is_fine() -> None:
    validate.check(workflow.fit, _settings())


def test_everything_wrong_is_reported_at_once_with_its_key() -> None:
    config = _settings(
        data={"name": "folder", "rooot": "x", "test_size": "half"},
        backbone={"name": "resnte50"},
        strategy={"name": "linear_probe", "C": "abc", "taps": "pool"},
        codes={"batch_size": 1.5, "pooling": "mean"},
        cache={"max_gb": "lots"},
        trainer={"foo": 1},
        seed="x",
        sed=1,
    )
    with pytest.raises(UsageError) as caught:
        validate.check(workflow.fit, config)
    lines = str(caught.value).splitlines()
    beginnings = [
        "  sed: no such setting. Did you mean 'seed'?",
        "  seed: expected int, got 'x'.",
        "  backbone=resnte50: no backbone called 'resnte50'. Did you mean 'resnet50",
        "  data.rooot: no such setting. Did you mean 'root'",
        "  data.root: a value is required.",
        "  data.test_size: expected float, got 'half'.",
        "  strategy.taps: no such setting. Did you mean 'tap'?",
        "  strategy.C: expected float or list[float] or null, got 'abc'.",
        "  codes.batch_size: expected int or null, got 1.5.",
        "  codes.pooling: expected 'avg' or 'max' or 'avg+max' or 'flatten', got 'mean'.",
        "  cache.max_gb: expected float, got 'lots'.",
        "  trainer.foo: no such setting.",
    ]
    assert lines[0] == "the configuration is not usable:"
    assert len(lines) == 1 + len(beginnings)
    for beginning in beginnings:
        assert any(line.startswith(beginning) for line in lines), beginning


def test_model_of_a_family_is_checked_against_its_list() -> None:
    with pytest.raises(UsageError, match=r"backbone=timm/resnte50: timm has no model .* Did you mean 'resnet50'"):
        validate.check_plugin("backbone", {"name": "timm", "model": "resnte50"})
    validate.check_plugin("backbone", {"name": "timm", "model": "resnet50.a1_in1k"})


def test_trainer_settings_are_lightnings() -> None:
    validate.check(workflow.fit, _settings(trainer={"max_epochs": 3, "compile": True}))
    with pytest.raises(UsageError, match=r"trainer\.compile: expected bool, got 'yes'"):
        validate.check(workflow.fit, _settings(trainer={"compile": "yes"}))
    with pytest.raises(UsageError, match=r"trainer\.device: no such setting\. Did you mean 'devices'"):
        validate.check(workflow.fit, _settings(trainer={"device": 2}))


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.lists(st.integers())))
def test_fits_agrees_with_isinstance_but_for_numbers(value: object) -> None:
    assert validate.fits(value, str) == isinstance(value, str)
    assert validate.fits(value, bool) == isinstance(value, bool)
    assert validate.fits(value, int) == (isinstance(value, int) and not isinstance(value, bool))
    assert validate.fits(value, float) == (isinstance(value, int | float) and not isinstance(value, bool))
    assert validate.fits(value, str | None) == (value is None or isinstance(value, str))
    assert validate.fits(value, Literal["a", "b"]) == (value in ("a", "b"))


def test_names_alone_are_checked_where_annotations_cannot_be_resolved() -> None:
    def plugin(*, depth: "Unknown" = 3) -> None:  # type: ignore[name-defined]  # noqa: F821
        """Stand for a plugin that imports a type under TYPE_CHECKING only."""

    assert list(validate.misfits([plugin], {"depth": "x"})) == []
    assert next(validate.misfits([plugin], {"dept": 1})).startswith("dept: no such setting. Did you mean 'depth'?")
