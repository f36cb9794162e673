"""Taps: where activations are taken, how they are found in a network, and how they are pooled to codes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

from tlkit.backbones.contract import Layout, Tap

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tlkit.backbones.contract import Backbone

Pooling = Literal["avg", "max", "avg+max", "flatten"]
POOLINGS: tuple[str, ...] = get_args(Pooling)

POOL = "pool"
# Containers whose members timm runs one after the other, by the names that its models give them.
_SEQUENCES = ("blocks", "stages", "layers")


class _Enough(Exception):
    """Everything asked for has been seen; the rest of the pass is for nobody."""


def read_taps(backbone: Backbone, batch: Tensor, taps: Sequence[str], pooling: Pooling = "avg") -> dict[str, Tensor]:
    """Return the codes at some taps, in eval mode and without gradients; the pass stops after the deepest.

    Args:
        backbone: The network, on the batch's device.
        batch: (n, C, H, W) float32, normalised by the backbone's preprocess.
        taps: Names of its taps.
        pooling: How the space of a map, or its tokens, become one vector; see `pooled`.

    Returns:
        (n, d) float32 for each, in the order asked for.

    Raises:
        UsageError: the backbone has no such tap.
    """
    import torch

    wanted = [backbone.tap(name) for name in taps]
    with torch.inference_mode(), evaluating(backbone.module):
        return activations(backbone.module, batch, wanted, pooling)


def activations(module: nn.Module, batch: Tensor, taps: Sequence[Tap], pooling: Pooling = "avg") -> dict[str, Tensor]:
    """Do what `read_taps` does in the mode the module is in, with gradients if they are on; fit for tracing."""
    codes: dict[str, Tensor] = {}
    inner = [tap for tap in taps if tap.name != POOL]
    outer = [tap for tap in taps if tap.name == POOL]

    def take(tap: Tap) -> Callable[[object], None]:
        def pool(output: object) -> None:
            # At once, because the next layer may work in place on this output.
            codes[tap.name] = pooled(tap, _rows(output, len(batch))[0], pooling)
            if not outer and len(codes) == len(inner):
                raise _Enough

        return pool

    with hooked(module, [(tap.module, take(tap)) for tap in inner]), suppress(_Enough):
        head = _up_to_classifier(module, batch)
        codes |= {tap.name: pooled(tap, head, pooling) for tap in outer}
    return {tap.name: codes[tap.name] for tap in taps}


def _up_to_classifier(module: nn.Module, batch: Tensor) -> Tensor:
    model: Any = module
    codes: Tensor = model.forward_head(model.forward_features(batch), pre_logits=True)
    return codes


def pooled(tap: Tap, output: Tensor, pooling: Pooling = "avg") -> Tensor:
    """Pool a tap's raw output to codes, (n, d) float32, over space or over the tap's tokens.

    "avg+max" are both, side by side. "flatten" keeps every position: channel by channel, each row by row, whatever the
    layout. "pool", which the network has pooled itself, stays as it is.

    >>> import torch
    >>> tap, output = Tap("x", "x", 2, 16, "NLC", (1, None)), torch.arange(6.0).reshape(1, 3, 2)
    >>> pooled(tap, output), pooled(tap, output, "avg+max"), pooled(tap, output, "flatten")
    (tensor([[3., 4.]]), tensor([[3., 4., 4., 5.]]), tensor([[2., 4., 3., 5.]]))
    """
    import torch

    output = output.float()
    if tap.layout == "NC":
        return output.clone()
    if tap.layout == "NLC":
        output = output[:, slice(*tap.tokens)]
    if pooling == "flatten" and tap.name != POOL:
        order = range(output.ndim) if tap.layout == "NCHW" else (0, output.ndim - 1, *range(1, output.ndim - 1))
        return output.permute(*order).flatten(1)
    space = {"NCHW": (2, 3), "NHWC": (1, 2), "NLC": (1,)}[tap.layout]
    if pooling == "avg" or tap.name == POOL:
        return output.mean(space)
    largest = output.amax(space)
    return largest if pooling == "max" else torch.cat([output.mean(space), largest], 1)


def codes_width(tap: Tap, pooling: Pooling = "avg") -> int | None:
    """Length of a tap's codes; None where only a pass can tell, for "flatten".

    >>> tap = Tap("x", "x", 32, 16, "NCHW")
    >>> codes_width(tap), codes_width(tap, "avg+max"), codes_width(tap, "flatten")
    (32, 64, None)
    """
    if tap.name == POOL or tap.layout == "NC":
        return tap.channels
    return {"avg": tap.channels, "max": tap.channels, "avg+max": 2 * tap.channels, "flatten": None}[pooling]


def find_taps(
    module: nn.Module, input_size: tuple[int, int, int], named: Mapping[str, str] | None = None
) -> tuple[Tap, ...]:
    """Find the taps of a network in the order in which one pass over a black image meets them, "pool" last.

    Args:
        module: A network that meets timm's model interface.
        input_size: Channels, height, width.
        named: Name → path of a module, instead of what timm's `feature_info` and the members of `blocks`,
            `stages` and `layers` offer.
    """
    info = _feature_info(module)
    paths = _candidates(module, info) if named is None else named
    outputs, head = _outputs_of(module, input_size, set(paths.values()))
    taps = []
    for path, output in outputs.items():
        stride = info.get(path, {}).get("reduction")
        taps += [_tap(n, path, output, module, input_size, stride) for n, where in paths.items() if where == path]
    pool = _tap(POOL, "", head, module, input_size, None)
    return *taps, pool


def _feature_info(module: nn.Module) -> dict[str, dict[str, Any]]:
    """What timm says about the module's features, by path of the module; some are described but do not exist."""
    described: Any = getattr(module, "feature_info", None) or []
    existing = dict(module.named_modules())
    entries = getattr(described, "info", described)
    return {entry["module"]: entry for entry in entries if entry.get("module") in existing}


def _candidates(module: nn.Module, info: Mapping[str, Any]) -> dict[str, str]:
    from torch import nn

    members = [
        f"{name}.{child}"
        for name in _SEQUENCES
        if isinstance(sequence := getattr(module, name, None), nn.Sequential | nn.ModuleList)
        for child, _ in sequence.named_children()
    ]
    inside = tuple(f"{path}." for path in members)
    paths = [path for path in info if not path.startswith(inside)] + [path for path in members if path not in info]
    return {path: _runs_as(module, path) for path in paths}


def _runs_as(module: nn.Module, path: str) -> str:
    """Follow a ModuleList, which is a container that is never called itself, to its last member."""
    from torch import nn

    while isinstance(found := module.get_submodule(path), nn.ModuleList) and len(found):
        path = f"{path}.{len(found) - 1}"
    return path


def _outputs_of(
    module: nn.Module, input_size: tuple[int, int, int], paths: set[str]
) -> tuple[dict[str, Tensor], Tensor]:
    """What modules put out for one black image, in order of execution, and what enters the classifier."""
    try:
        return _dry_run(without_numbers(module), input_size, paths)
    except (RuntimeError, NotImplementedError):  # it mixes in tensors that are neither parameters nor buffers
        return _dry_run(module, input_size, paths)


def without_numbers(module: nn.Module) -> nn.Module:
    """Copy a network without its numbers: on torch's "meta" device, which knows shapes only, a pass costs nothing."""
    from torch import nn

    stand_ins: dict[int, Any] = {id(buffer): buffer.to("meta") for buffer in module.buffers()}
    for parameter in module.parameters():
        stand_ins[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
    return deepcopy(module, stand_ins)


def _dry_run(module: nn.Module, input_size: tuple[int, int, int], paths: set[str]) -> tuple[dict[str, Tensor], Tensor]:
    import torch

    seen: dict[str, object] = {}
    weight = next(module.parameters())
    image = torch.zeros(1, *input_size, device=weight.device, dtype=weight.dtype)
    calls = [(path, partial(seen.__setitem__, path)) for path in paths]
    with torch.inference_mode(), evaluating(module), hooked(module, calls):
        head = _up_to_classifier(module, image)
    return {path: rows[0] for path, output in seen.items() if (rows := _rows(output, 1))}, head


def _rows(output: object, n: int) -> list[Tensor]:
    """The tensors of an output that have a row for each of n samples; the first is the one a tap takes."""
    import torch

    several = output if isinstance(output, list | tuple) else [output]
    return [part for part in several if isinstance(part, torch.Tensor) and part.ndim > 1 and len(part) == n]


def _tap(
    name: str, path: str, output: Tensor, module: nn.Module, input_size: tuple[int, int, int], stride: int | None
) -> Tap:
    _, height, width = input_size
    layout = _layout(tuple(output.shape), height, width, getattr(module, "output_fmt", "NCHW"))
    channels = output.shape[1 if layout == "NCHW" else -1]
    tokens: tuple[int, int | None] = (0, None)
    area = output.numel() // channels
    if layout == "NLC":
        prefix = _prefix_tokens(module, area, height, width)
        area -= prefix
        is_token = prefix and getattr(module, "global_pool", None) == "token"
        tokens = (0, 1) if is_token else (0 if getattr(module, "pool_include_prefix", False) else prefix, None)
    reduction = None if layout == "NC" else stride or round((height * width / area) ** 0.5)
    return Tap(name, path, channels, reduction, layout, tokens)


def _layout(shape: tuple[int, ...], height: int, width: int, preferred: str) -> Layout:
    """Tell the layout of a map by where its height and width are; the model's own word decides a draw."""
    if len(shape) < 4:
        return "NLC" if len(shape) == 3 else "NC"
    first = abs(shape[2] * width - shape[3] * height)
    last = abs(shape[1] * width - shape[2] * height)
    if first == last:
        return "NHWC" if preferred == "NHWC" else "NCHW"
    return "NCHW" if first < last else "NHWC"


def _prefix_tokens(module: nn.Module, length: int, height: int, width: int) -> int:
    """How many class or register tokens stand before the patches here; CaiT and XCiT add theirs late."""
    declared = int(getattr(module, "num_prefix_tokens", 1))
    grids = {(height // side) * (width // side) for side in range(1, height + 1)}
    return declared if length not in grids and length - declared in grids else 0


@contextmanager
def hooked(module: nn.Module, calls: Sequence[tuple[str, Callable[[object], None]]]) -> Iterator[None]:
    """Give the outputs of modules to functions, for as long as the block lasts."""
    with ExitStack() as stack:
        for path, call in calls:

            def hook(_: nn.Module, _inputs: object, output: object, call: Callable[[object], None] = call) -> None:
                call(output)

            stack.enter_context(module.get_submodule(path).register_forward_hook(hook))
        yield


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode inside; outside every module is in the mode it was in, for part of a network may be frozen."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True
