"""Published weights: the real download against a local stand-in of the hub, and the way out where there is none."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import timm
from timm.models import save_for_hf

from tlkit.backbones import from_timm, state_digest
from tlkit.backbones.hub import published_config
from tlkit.errors import TlkitError

NAME = "test_convnext"
REPOSITORY = "timm/test_convnext.r160_in1k"
BUILD = """
import sys
from tlkit.backbones import from_timm
from tlkit.errors import TlkitError
for architecture in sys.argv[1:]:
    try:
        backbone = from_timm(architecture, weights="pretrained")
        print(backbone.weights.sha256, backbone.weights.source, backbone.weights.dataset, end="|")
    except TlkitError as err:
        print("ERROR", err, end="|")
"""


def build(architectures: list[str], home: Path, **environment: str) -> tuple[list[str], float]:
    """Build backbones in a process of its own, since the hub's settings are read when its library is imported."""
    settings = {**os.environ, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", **environment}
    began = time.monotonic()
    told = subprocess.run(
        [sys.executable, "-c", BUILD, *architectures], env=settings, capture_output=True, text=True, check=True
    )
    return told.stdout.split("|")[:-1], time.monotonic() - began


class Hub:
    """What the download of one repository needs of the hub, and the requests it got."""

    def __init__(self, folder: Path) -> None:
        files = {f"/{REPOSITORY}/resolve/main/{p.name}": p.read_bytes() for p in folder.iterdir()}
        self.requests: list[str] = []
        requests = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self.answer(with_body=False)

            def do_GET(self) -> None:
                self.answer(with_body=True)

            def answer(self, with_body: bool) -> None:
                requests.append(f"{self.command} {self.path}")
                body = files.get(self.path)
                self.send_response(404 if body is None else 200)
                self.send_header("X-Repo-Commit", "0123456789abcdef0123456789abcdef01234567")
                self.send_header("ETag", f'"{hashlib.sha256(body or b"").hexdigest()}"')
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                if with_body and body:
                    self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    save_for_hf(timm.create_model(NAME), str(tmp_path / "repository"), safe_serialization=True)
    hub = Hub(tmp_path / "repository")
    thread = threading.Thread(target=hub.server.serve_forever)
    thread.start()
    yield hub
    hub.server.shutdown()
    thread.join()
    hub.server.server_close()


def test_weights_are_fetched_once_and_then_kept(hub: Hub, tmp_path: Path) -> None:
    (told,), _ = build([NAME], tmp_path / "home", HF_ENDPOINT=hub.url)
    digest = state_digest(from_timm(NAME, weights=str(tmp_path / "repository")).module)
    assert told.split() == [digest, REPOSITORY, "ImageNet-1k"]
    assert sum(request.startswith("GET") for request in hub.requests) == 1
    hub.requests.clear()
    (told, other), _ = build([NAME, "resnet18"], tmp_path / "home", HF_ENDPOINT=hub.url)
    assert told.split()[0] == digest
    assert all("resnet18" in request for request in hub.requests)
    assert other.startswith("ERROR the weights of resnet18 are 'timm/resnet18.a1_in1k' on the Hugging Face hub")
    assert "404" in other or "not found" in other.lower()
    (told, other), _ = build([NAME, "resnet18"], tmp_path / "home", HF_HUB_OFFLINE="1")
    assert told.split()[0] == digest
    check_way_out(other, "HF_HUB_OFFLINE is set", tmp_path / "home")


def test_without_a_network_one_error_says_the_way_out(tmp_path: Path) -> None:
    (told,), seconds = build(["resnet18"], tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    check_way_out(told, "refused", tmp_path)
    assert seconds < 60  # most of it imports on a busy machine; the hub's own retries take minutes


def check_way_out(told: str, reason: str, home: Path) -> None:
    assert told.startswith(
        "ERROR the weights of resnet18 are 'timm/resnet18.a1_in1k' on the Hugging Face hub and cannot be fetched: "
    )
    for word in (
        reason,
        "hf download timm/resnet18.a1_in1k config.json model.safetensors --local-dir resnet18.a1_in1k",
        "backbone.weights=<folder with config.json and model.safetensors>",
        str(home / "hub"),
        "HF_HUB_OFFLINE",
    ):
        assert word in told
    assert "Traceback" not in told


def unpublished() -> str:
    return next(n for n in timm.list_models() if not ((c := published_config(n)) and c.has_weights))


def test_architectures_without_weights_say_so() -> None:
    name = unpublished()
    with pytest.raises(TlkitError, match=f"no weights are published for {name}. .*backbone.weights=null"):
        from_timm(name, weights="pretrained")


def test_weights_that_exist_as_a_pickle_only_are_refused() -> None:
    pickled = [n for n in timm.list_pretrained() if (c := published_config(n)) and not c.hf_hub_id]
    if not pickled:
        pytest.skip("all weights of this timm are on the hub")
    with pytest.raises(TlkitError, match="published as a pickle only"):
        from_timm(pickled[0], weights="pretrained")
