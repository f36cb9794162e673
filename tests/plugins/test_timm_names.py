"""Names read from the source of timm are the names that timm registers."""

import timm

from tlkit import registry


def test_names_are_those_that_timm_lists() -> None:
    assert registry.model_names("timm") == frozenset(timm.list_models())
