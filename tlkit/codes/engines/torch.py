"""The engine for every device, and the reference for the others: torch, without gradients."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from tlkit.codes.engines.engine import Engine
from tlkit.codes.engines.folding import fold_batch_norms
from tlkit.codes.engines.frozen import Frozen, gap, noise
from tlkit.progress import progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tlkit.backbones import Backbone, Tap
    from tlkit.backbones.taps import Pooling

log = logging.getLogger(__name__)

_Network = Callable[[Tensor], tuple[Tensor, ...]]
_KINDS = {"float32": torch.float32, "bf16": torch.bfloat16, "float16": torch.float16}
_BATCH = {"cpu": 16}
_BATCH_ELSEWHERE = 128
_FOLDING_TOLERANCE = 1e-5
# Compiling takes a minute or so, and saves the GPU less than half of its time: about two minutes for 100,000 images of
# a network that does 400 a second, nothing that counts for a few thousand.
COMPILE_FROM = 20_000


def torch_engine(
    backbone: Backbone,
    taps: Sequence[Tap],
    precision: str,
    pooling: Pooling,
    batch_size: int | None,
    place: str,
    images: int,
    label: str,
) -> Engine:
    """Make an engine that runs torch; the arguments are those of `make_engine`, checked.

    On a GPU the network is compiled if `COMPILE_FROM` images or more will come.
    """
    kind = torch.device(place).type
    frozen = _folded(backbone, taps, pooling).to(place).to(memory_format=torch.channels_last)
    size = batch_size or _BATCH.get(kind, _BATCH_ELSEWHERE)
    network: _Network = frozen
    if kind == "cuda" and images >= COMPILE_FROM:
        network = compiled(frozen, size, place, precision)

    def run(pixels: NDArray[np.uint8], most: int) -> list[NDArray[np.float32]]:
        with exact(kind, precision):
            outputs = network(torch.from_numpy(pixels).to(place))
            return [codes.float().cpu().numpy() for codes in outputs]

    return Engine("torch", label, [tap.name for tap in taps], size, run)


def _folded(backbone: Backbone, taps: Sequence[Tap], pooling: Pooling) -> Frozen:
    """A copy of the network, with BatchNorm folded into convolutions as far as that leaves the codes as they are."""
    pixels = noise(backbone.preprocess, 2)
    frozen = _copy(backbone, taps, pooling)
    wanted = frozen.codes(pixels)
    try:
        fold_batch_norms(frozen, torch.from_numpy(pixels))
        if gap(frozen.codes(pixels), wanted) <= _FOLDING_TOLERANCE:
            return frozen
    except (AttributeError, RuntimeError, TypeError) as err:  # it reads what is not there any more
        log.debug("BatchNorm of %s is not folded: %r", backbone.name, err)
    return _copy(backbone, taps, pooling)


def _copy(backbone: Backbone, taps: Sequence[Tap], pooling: Pooling) -> Frozen:
    return Frozen(deepcopy(backbone.module).cpu().eval(), backbone.preprocess, taps, pooling)


def compiled(frozen: Frozen, size: int, place: str, precision: str) -> _Network:
    """Compile the network for batches of `size`; other numbers of images are padded, or run as before.

    If it cannot be compiled, or then computes something else, the network is returned as it is.
    """
    example = torch.from_numpy(noise(frozen.preprocess, size)).to(place)
    try:
        with progress("compiling the network"), exact(example.device.type, precision), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "TensorFloat32 tensor cores", UserWarning)  # which float32 does not mean
            from torch.fx.experimental.proxy_tensor import make_fx

            # The graph is taken first, as torch.compile would break it at the hooks that read the taps.
            fast: _Network = torch.compile(make_fx(frozen)(example))
            found, wanted = ([codes.float().cpu().numpy() for codes in each(example)] for each in (fast, frozen))
    except Exception as err:  # a compiler may be missing, or fail on a network
        log.warning("the network is not compiled, which makes it slower: %s", str(err).strip().partition("\n")[0])
        return frozen
    tolerance = 1e-4 if precision == "float32" else 3e-2
    if gap(found, wanted) > tolerance:
        log.warning("the network is not compiled, which makes it slower: its codes would differ")
        return frozen

    def run(pixels: Tensor) -> tuple[Tensor, ...]:
        missing = size - len(pixels)
        if missing > size // 2:
            codes: tuple[Tensor, ...] = frozen(pixels)
            return codes
        padded = torch.cat([pixels, example[:missing]]) if missing else pixels
        return tuple(codes[: len(pixels)] for codes in fast(padded))

    return run


@contextmanager
def exact(kind: str, precision: str) -> Iterator[None]:
    """Without gradients, in the precision asked for: float32 is never float32 with the mantissa of bfloat16 or TF32."""
    before = torch.get_float32_matmul_precision()
    with ExitStack() as stack:
        stack.callback(torch.set_float32_matmul_precision, before)
        torch.set_float32_matmul_precision("highest")
        if kind == "cuda":
            stack.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False))
        stack.enter_context(torch.inference_mode())
        stack.enter_context(torch.autocast(kind, _KINDS[precision], enabled=precision != "float32"))
        yield
