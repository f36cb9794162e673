"""The backbone keeps its part of the contract."""

from pathlib import Path

import pytest
from safetensors.torch import save_file
from tlkit_example_backbone import smallnet

from tlkit.errors import TlkitError
from tlkit.testing import backbone_checks

CHECKS = dict(backbone_checks(smallnet))


@pytest.mark.parametrize("name", CHECKS)
def test_smallnet(name: str) -> None:
    """One promise of a backbone."""
    CHECKS[name]()


def test_weights_are_read_and_must_fit(tmp_path: Path) -> None:
    """Weights make a round trip; those of another width are refused."""
    file = str(tmp_path / "trained.safetensors")
    original = smallnet(width=8)
    save_file(original.module.state_dict(), file)
    again = smallnet(width=8, weights=file)
    assert again.weights is not None
    assert (original.module.state_dict()["stem.0.weight"] == again.module.state_dict()["stem.0.weight"]).all()
    with pytest.raises(TlkitError, match="another shape"):
        smallnet(width=16, weights=file)
