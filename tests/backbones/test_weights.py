"""Weights from folders and files: exactly timm's result, or an explained error."""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import save_for_hf
from torch import Tensor

from tlkit.backbones import from_timm, state_digest
from tlkit.errors import TlkitError, UsageError

NAME = "resnet10t"


@pytest.fixture(scope="module")
def original() -> dict[str, Tensor]:
    torch.manual_seed(1)
    network = timm.create_model(NAME, num_classes=7)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.1, 1)
    return dict(network.state_dict())


@pytest.fixture
def folder(original: dict[str, Tensor], tmp_path: Path) -> Path:
    network = timm.create_model(NAME, num_classes=7)
    network.load_state_dict(original)
    save_for_hf(network, str(tmp_path / "hub"), safe_serialization=True, model_config={"label_names": list("abcdefg")})
    return tmp_path / "hub"


def edit(folder: Path, **changes: Any) -> None:  # noqa: ANN401 - JSON
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))


def write(path: Path, tensors: dict[str, Tensor]) -> str:
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
    return str(path)


def test_a_folder_gives_what_timm_gives(folder: Path, original: dict[str, Tensor]) -> None:
    backbone = from_timm(NAME, weights=str(folder))
    loaded = backbone.module.state_dict()
    assert loaded.keys() == original.keys()
    assert all(torch.equal(loaded[name], original[name]) for name in original)
    assert backbone.weights is not None
    assert backbone.weights.num_classes == backbone.module.num_classes == 7
    assert backbone.weights.class_names == tuple("abcdefg")
    assert backbone.weights.sha256 == state_digest(backbone.module)
    assert backbone.spec == {"name": NAME, "weights": str(folder)}
    assert not backbone.module.training


def test_model_arguments_and_preprocess_of_the_folder_count(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["model_args"] = {"norm_layer": "groupnorm1", "num_classes": 7}
    config["pretrained_cfg"] |= {"mean": [0.1, 0.2, 0.3], "crop_pct": 0.5, "interpolation": "bilinear"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(TlkitError, match="no place in the network"):  # the batch norms' statistics
        from_timm(NAME, weights=str(folder))
    edit(folder, model_args={"num_classes": 7})
    preprocess = from_timm(NAME, weights=str(folder)).preprocess
    assert (preprocess.mean, preprocess.crop_pct, preprocess.interpolation) == ((0.1, 0.2, 0.3), 0.5, "bilinear")


def test_a_file_tells_the_number_of_classes(tmp_path: Path, original: dict[str, Tensor]) -> None:
    backbone = from_timm(NAME, weights=write(tmp_path / "own.safetensors", original))
    assert backbone.module.num_classes == 7
    assert backbone.weights is not None
    assert (backbone.weights.num_classes, backbone.weights.dataset, backbone.weights.license) == (7, None, None)
    assert torch.equal(backbone.module.get_parameter("fc.weight"), original["fc.weight"])


def test_a_file_without_a_classifier_gives_a_trunk(tmp_path: Path, original: dict[str, Tensor]) -> None:
    trunk = {name: tensor for name, tensor in original.items() if not name.startswith("fc.")}
    backbone = from_timm(NAME, weights=write(tmp_path / "trunk.safetensors", trunk))
    assert backbone.module.num_classes == 0
    assert backbone.module.state_dict().keys() == trunk.keys()


def test_a_wrapper_of_distributed_training_is_taken_off(tmp_path: Path, original: dict[str, Tensor]) -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in original.items()}
    backbone = from_timm(NAME, weights=write(tmp_path / "ddp.safetensors", wrapped))
    assert torch.equal(backbone.module.state_dict()["conv1.0.weight"], original["conv1.0.weight"])


def test_torchvisions_names_are_understood_where_timm_does(tmp_path: Path) -> None:
    import torchvision

    theirs = torchvision.models.inception_v3(weights=None, init_weights=False, num_classes=5)
    assert theirs.AuxLogits is not None
    backbone = from_timm("inception_v3", weights=write(tmp_path / "inception.safetensors", theirs.state_dict()))
    batch = torch.randn(2, 3, 75, 75)
    with torch.inference_mode():
        theirs.transform_input = False
        torch.testing.assert_close(backbone.module(batch), theirs.eval()(batch), atol=1e-4, rtol=1e-4)
        assert isinstance(backbone.module.train()(batch), Tensor)  # in training too: trap 10, auxiliary logits


def test_a_file_beside_its_config_is_the_folder(folder: Path) -> None:
    edit(folder, architecture="resnet18")
    with pytest.raises(TlkitError, match="weights of 'resnet18'"):
        from_timm(NAME, weights=str(folder / "model.safetensors"))


def test_a_half_filled_network_is_refused(tmp_path: Path, original: dict[str, Tensor]) -> None:
    partial = {name: tensor for name, tensor in original.items() if not name.startswith("layer4.")}
    with pytest.raises(TlkitError, match=r"\d+ of the network's 86 tensors are missing, such as layer4.0.conv1.weight"):
        from_timm(NAME, weights=write(tmp_path / "partial.safetensors", partial))


def test_a_wrong_prefix_is_guessed(tmp_path: Path, original: dict[str, Tensor]) -> None:
    path = write(tmp_path / "ssl.safetensors", {f"encoder.{name}": tensor for name, tensor in original.items()})
    with pytest.raises(TlkitError, match=r"the file has encoder\..*Every name starts with 'encoder.', a wrong prefix"):
        from_timm(NAME, weights=path)


def test_what_is_left_over_is_refused(tmp_path: Path, original: dict[str, Tensor]) -> None:
    path = write(tmp_path / "more.safetensors", {**original, "layer5.weight": torch.zeros(3)})
    with pytest.raises(TlkitError, match=r"1 of 8\d tensors have no place in the network, such as layer5.weight"):
        from_timm(NAME, weights=path)


def test_other_shapes_are_told(tmp_path: Path, original: dict[str, Tensor]) -> None:
    path = write(tmp_path / "wide.safetensors", {**original, "conv1.0.weight": torch.zeros(48, 3, 3, 3)})
    with pytest.raises(TlkitError, match=re.escape("conv1.0.weight (48, 3, 3, 3) for (24, 3, 3, 3)")):
        from_timm(NAME, weights=path)


def test_another_network_is_told(tmp_path: Path, original: dict[str, Tensor]) -> None:
    with pytest.raises(TlkitError, match="is it the file of another architecture"):
        from_timm("test_vit", weights=write(tmp_path / "own.safetensors", original))


def test_the_folder_of_another_architecture_is_refused(folder: Path) -> None:
    with pytest.raises(TlkitError, match=r"holds weights of 'resnet10t', but the backbone is 'resnet18'"):
        from_timm("resnet18", weights=str(folder))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "not a timm config.json"),
        (lambda f: (f / "config.json").write_text("[]"), "not a timm config.json"),
        (lambda f: (f / "model.safetensors").unlink(), "has no model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"short"), "not a readable safetensors file"),
        (lambda f: edit(f, model_args={"nonsense": 1}), "timm cannot use it for local-dir"),
    ],
)
def test_broken_folders_are_explained(folder: Path, spoil: Any, words: str) -> None:  # noqa: ANN401
    spoil(folder)
    with pytest.raises(TlkitError, match=words):
        from_timm(NAME, weights=str(folder))


@pytest.mark.parametrize("name", ["weights.pth", "pytorch_model.bin", "weights"])
def test_pickles_are_never_opened(tmp_path: Path, name: str) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (tmp_path / "exploded",))

    torch.save({"fc.weight": Bomb()}, tmp_path / name)
    with pytest.raises(TlkitError, match="may be a pickle"):
        from_timm(NAME, weights=str(tmp_path / name))
    shutil.move(tmp_path / name, tmp_path / "pytorch_model.bin")
    with pytest.raises(TlkitError, match="pickles are never read"):
        from_timm(NAME, weights=str(tmp_path))
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("architecture", "weights", "words"),
    [
        ("resnet5000", None, "no architecture 'resnet5000'.* Did you mean 'resnet50'"),
        ("resnet18.a1_in", None, "no weights tagged 'a1_in'.*Did you mean 'a1_in1k'"),
        ("resnet18", "a1_in1k", "no such file or folder.*backbone=timm/resnet50.a1_in1k"),
    ],
)
def test_wrong_words(architecture: str, weights: str | None, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        from_timm(architecture, weights=weights)


def test_random_weights_have_no_origin() -> None:
    backbone = from_timm(NAME, weights=None, name="mine", spec={"name": "mine", "width": 3})
    assert backbone.weights is None
    assert backbone.spec == {"name": "mine", "width": 3, "weights": None}


def test_the_digest_covers_names_types_shapes_and_bytes() -> None:
    network = torch.nn.Linear(2, 1, bias=False)
    with torch.no_grad():
        network.weight.copy_(torch.tensor([[1.0, 2.0]]))
    expected = hashlib.sha256(b"weight torch.float32 (1, 2)\n" + network.weight.detach().numpy().tobytes())
    assert state_digest(network) == expected.hexdigest()
    digests = {state_digest(network), state_digest(torch.nn.Linear(2, 1)), state_digest(network.bfloat16())}
    assert len(digests) == 3


def test_loading_in_another_thread_goes_on(original: dict[str, Tensor]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    from tlkit.backbones.timm_models import _loading_kept

    other = torch.nn.Linear(1, 1)
    with _loading_kept() as kept, ThreadPoolExecutor(1) as pool:
        pool.submit(other.load_state_dict, {"weight": torch.ones(1, 1), "bias": torch.ones(1)}).result()
    assert other.weight.item() == 1
    assert not kept
