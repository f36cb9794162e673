"""The engine of CPUs: the network converted to OpenVINO, normalisation and pooling inside, kept on disk by digest."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tlkit.backbones import state_digest
from tlkit.codes.engines.digests import structure_digest
from tlkit.codes.engines.engine import Engine, Run, is_out_of_memory, processors
from tlkit.codes.engines.frozen import Frozen, gap, noise
from tlkit.codes.engines.networks import FILES, NotConvertible, find_network, keep_network, refuse_network
from tlkit.codes.engines.runtime import FrontEndManager, TorchScriptPythonDecoder, ov
from tlkit.errors import TlkitError
from tlkit.progress import progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tlkit.backbones import Backbone, Tap
    from tlkit.backbones.taps import Pooling

log = logging.getLogger(__name__)

# Four images of MobileNetV2 stay in a usual L3 cache, which makes it 1.3 times faster than in batches of 16. Networks
# of fewer and larger products, such as ResNet-50, VGG and ViT, do not care.
_BATCH = 4
_CORES_A_STREAM = 8
_TOLERANCE = 1e-4
_FORMAT = 1
_PRECISIONS = {"float32": "f32", "bf16": "bf16"}


def openvino_engine(
    backbone: Backbone,
    taps: Sequence[Tap],
    precision: str,
    pooling: Pooling,
    batch_size: int | None,
    cache: Path | None,
    label: str,
) -> Engine:
    """Make an engine that runs OpenVINO on the CPU; the arguments are those of `make_engine`, checked.

    The network is converted once with all its taps; those not asked for, and what only they need, are left out when it
    is compiled. Several batches run at once where there are many cores, each in a stream of its own. Rows are the same
    bits whatever the batch and the stream.

    Raises:
        NotConvertible: OpenVINO cannot take the network, or computes something else.
    """
    core = ov.Core()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        folder = (cache or Path(scratch)) / _digest(backbone, pooling)
        everything = core.read_model(_network(core, backbone, pooling, folder, Path(scratch)))
    results = [everything.get_results()[backbone.taps.index(tap)] for tap in taps]
    model = ov.Model(results, everything.get_parameters(), backbone.name)
    streams = max(1, processors() // _CORES_A_STREAM)
    run = _runner(core, model, streams, _PRECISIONS[precision])
    return Engine("openvino", label, [tap.name for tap in taps], batch_size or _BATCH * streams, run)


def _network(core: Any, backbone: Backbone, pooling: Pooling, folder: Path, scratch: Path) -> Path:  # noqa: ANN401
    """Return the file of the converted network, which is made if `folder` does not have it.

    Even one that is not kept is read from a file, for numbers that are the same in every run.
    """
    found = find_network(folder)
    if found:
        return found
    frozen = Frozen(deepcopy(backbone.module).cpu().eval(), backbone.preprocess, backbone.taps, pooling)
    with progress(f"converting {backbone.name} to OpenVINO"):
        try:
            write = partial(_write_checked, core, frozen, _converted(frozen))
            return _kept(folder, scratch, write)
        except NotConvertible as err:
            if err.lasting:
                with suppress(OSError, TlkitError):  # then it is tried again the next time
                    refuse_network(folder, str(err))
            raise


def _kept(folder: Path, scratch: Path, write: Callable[[Path], None]) -> Path:
    try:
        return keep_network(folder, write)
    except (OSError, RuntimeError, TlkitError) as err:
        log.warning("%s: no place for the converted network, check space and permissions (%s)", folder.parent, err)
    try:
        return keep_network(scratch / "network", write)
    except (OSError, RuntimeError, TlkitError) as err:
        raise NotConvertible(f"{scratch}: no place for the converted network ({err})", lasting=False) from err


def _converted(frozen: Frozen) -> Any:  # noqa: ANN401
    """Trace the network and convert the trace; `openvino.convert_model` would report it to its makers as well."""
    example = torch.from_numpy(noise(frozen.preprocess, 2))
    try:
        with torch.no_grad(), _quiet():
            decoder = TorchScriptPythonDecoder(frozen, example_input=example, trace_kwargs={"check_trace": False})
        frontend = FrontEndManager().load_by_framework("pytorch")
        model = frontend.convert(frontend.load(decoder))
        model.reshape([-1, *example.shape[1:]])
    except Exception as err:  # tracing and converting fail in as many ways as networks are written
        reason = f"OpenVINO cannot convert it: {_first_line(err)}"
        raise NotConvertible(reason, lasting=not is_out_of_memory(err)) from err
    return model


@contextmanager
def _quiet() -> Iterator[None]:
    """Tracing is deprecated, and warns of constants; here they are constants, and the result is checked."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", r"`torch\.jit\.", category)
        warnings.filterwarnings("ignore", category=torch.jit._trace.TracerWarning)
        yield


def _write_checked(core: Any, frozen: Frozen, model: Any, folder: Path) -> None:  # noqa: ANN401
    """Write the network, and read it again to see that it computes what torch does, for another number of images too.

    Raises:
        NotConvertible: it does not.
    """
    path = folder / FILES[0]
    ov.save_model(model, path, compress_to_fp16=False)
    pixels = noise(frozen.preprocess, 3)
    run = _runner(core, core.read_model(path), 1, "f32")
    try:
        found = gap(run(pixels, len(pixels)), frozen.codes(pixels))
    except Exception as err:  # such as a number of images that was taken for a constant
        reason = f"OpenVINO cannot run it: {_first_line(err)}"
        raise NotConvertible(reason, lasting=not is_out_of_memory(err)) from err
    if found > _TOLERANCE:
        raise NotConvertible(f"its codes from OpenVINO differ from torch's by {found:.1e} (relative)")


def _runner(core: Any, model: Any, streams: int, precision: str) -> Run:  # noqa: ANN401
    """Return a function that runs a batch, in equal parts of fixed size, each in a stream of its own."""
    compiled: dict[int, list[Any]] = {}

    def run(pixels: NDArray[np.uint8], batch_size: int) -> list[NDArray[np.float32]]:
        rows = -(-batch_size // streams)
        if rows not in compiled:
            compiled.clear()
            compiled[rows] = _requests(core, model, rows, streams, precision)
        parts = [_padded(pixels[start : start + rows], rows) for start in range(0, len(pixels), rows)]
        busy = compiled[rows][: len(parts)]
        for request, part in zip(busy, parts, strict=True):
            request.start_async([part], share_inputs=True)
        for request in busy:
            request.wait()
        outputs = range(len(model.outputs))
        return [np.concatenate([each.get_output_tensor(k).data for each in busy])[: len(pixels)] for k in outputs]

    return run


def _requests(core: Any, model: Any, rows: int, streams: int, precision: str) -> list[Any]:  # noqa: ANN401
    fixed = model.clone()
    shape = fixed.input().partial_shape
    shape[0] = rows
    fixed.reshape(shape)
    settings = {
        "INFERENCE_PRECISION_HINT": precision,
        "NUM_STREAMS": streams,
        "ENABLE_CPU_PINNING": False,  # the threads that decode need the cores as well
    }
    compiled = core.compile_model(fixed, "CPU", settings)
    return [compiled.create_infer_request() for _ in range(streams)]


def _padded(pixels: NDArray[np.uint8], rows: int) -> NDArray[np.uint8]:
    if len(pixels) == rows:
        return pixels
    return np.concatenate([pixels, np.zeros((rows - len(pixels), *pixels.shape[1:]), dtype=np.uint8)])


def _first_line(err: Exception) -> str:
    return str(err).strip().partition("\n")[0] or type(err).__name__


def _digest(backbone: Backbone, pooling: Pooling) -> str:
    """The sha256 hex of all that makes a difference to the converted network."""
    parts = {
        "weights": state_digest(backbone.module),
        "structure": structure_digest(backbone),
        "taps": [repr(tap) for tap in backbone.taps],
        "pooling": pooling,
        "preprocess": backbone.preprocess.to_dict(),
        "versions": [version("openvino"), _FORMAT],
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
