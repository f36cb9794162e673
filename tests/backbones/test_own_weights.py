"""Weights of networks that timm does not have: torchvision's file format from a server, and safetensors files."""

from collections.abc import Iterator
from functools import partial
from hashlib import sha256
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tlkit.backbones import from_network, state_digest
from tlkit.backbones.own_weights import fetch_torchvision
from tlkit.data import Preprocess
from tlkit.errors import TlkitError, UsageError

PREPROCESS = Preprocess((3, 8, 8), "bilinear", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), 1.0)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """A folder, and its address; torch's downloads go elsewhere."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "home"))
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def published(folder: Path, content: object) -> str:
    """Write a file as torchvision publishes it: a pickle of tensors whose name ends with its sha256's beginning."""
    file = folder / "x.pth"
    torch.save(content, file)
    name = f"net-{sha256(file.read_bytes()).hexdigest()[:8]}.pth"
    file.rename(folder / name)
    return name


def test_a_published_file_is_fetched_once(served: tuple[Path, str]) -> None:
    folder, address = served
    tensors = {"a": torch.randn(3, 4), "b": torch.arange(3)}
    name = published(folder, tensors)
    url, fetched = fetch_torchvision("alexnet", f"{address}/{name}")
    assert url == f"{address}/{name}"
    assert all(torch.equal(tensor, fetched[key]) for key, tensor in tensors.items())
    (folder / name).unlink()
    again = fetch_torchvision("alexnet", url)[1]
    assert torch.equal(again["a"], tensors["a"])


def test_another_file_under_that_name_is_refused(served: tuple[Path, str]) -> None:
    folder, address = served
    name = published(folder, {"a": torch.ones(2)})
    (folder / name).write_bytes((folder / name).read_bytes() + b"x")
    with pytest.raises(TlkitError, match="invalid hash value"):
        fetch_torchvision("alexnet", f"{address}/{name}")


def test_nothing_but_tensors_is_read(served: tuple[Path, str], tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (str(tmp_path / "ran"),)

    folder, address = served
    name = published(folder, {"a": Evil()})
    with pytest.raises(TlkitError, match="cannot be had"):
        fetch_torchvision("alexnet", f"{address}/{name}")
    assert not (tmp_path / "ran").exists()


def test_without_a_network_the_way_out_is_told(served: tuple[Path, str]) -> None:
    with pytest.raises(TlkitError, match=r"cannot be had: .*\n.*fetch http.*\nand bring it to .*net-00000000.pth"):
        fetch_torchvision("alexnet", f"{served[1]}/net-00000000.pth")


class Net(nn.Module):
    num_classes, num_features = 5, 4

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU())
        self.fc = nn.Linear(4, 5)

    def get_classifier(self) -> nn.Module:
        return self.fc

    def reset_classifier(self, num_classes: int) -> None:
        self.fc, self.num_classes = nn.Linear(4, num_classes), num_classes

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return self.blocks(x)  # type: ignore[no-any-return]

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        codes = x.mean((2, 3))
        return codes if pre_logits else self.fc(codes)


def test_a_file_is_loaded_whole(tmp_path: Path) -> None:
    other = Net()
    other.reset_classifier(7)
    file = tmp_path / "model.safetensors"
    save_file(other.state_dict(), file)
    for weights in (file, tmp_path):
        backbone = from_network(Net(), name="net", weights=str(weights), preprocess=PREPROCESS)
        assert backbone.weights is not None
        assert (backbone.weights.num_classes, backbone.weights.sha256) == (7, state_digest(other))
        assert backbone.spec == {"name": "net", "weights": str(weights)}
    del other.blocks[0].bias
    save_file(other.state_dict(), file)
    with pytest.raises(TlkitError, match="1 of the network's 4 tensors are missing"):
        from_network(Net(), name="net", weights=str(file), preprocess=PREPROCESS)


def test_weights_that_do_not_exist_are_explained(tmp_path: Path) -> None:
    with pytest.raises(TlkitError, match=r"no weights are published for net\..*strategy=scratch"):
        from_network(Net(), name="net", weights="pretrained", preprocess=PREPROCESS)
    with pytest.raises(UsageError, match=r"no such file, or a folder without model\.safetensors"):
        from_network(Net(), name="net", weights=str(tmp_path), preprocess=PREPROCESS)
    assert from_network(Net(), name="net", weights=None, preprocess=PREPROCESS).weights is None
