"""One pass through a network, layer by layer: what each computes, what it puts out, learns, costs and sees."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakTensorKeyDictionary

from tlkit.backbones import fields
from tlkit.backbones.fields import Field, Pair, Seen

if TYPE_CHECKING:
    from torch.utils.flop_counter import FlopCounterMode

# Names of arguments, in order, of what slides a window over a map.
_WINDOWS = {
    "conv2d": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    "max_pool2d": ("input", "kernel_size", "stride", "padding", "dilation"),
    "avg_pool2d": ("input", "kernel_size", "stride", "padding"),
    "lp_pool2d": ("input", "norm_type", "kernel_size", "stride"),
}
_ADAPTIVE = ("adaptive_avg_pool2d", "adaptive_max_pool2d")
_REDUCTIONS = ("mean", "sum", "amax", "logsumexp", "norm")
_PRODUCTS = ("matmul", "bmm", "baddbmm", "einsum", "scaled_dot_product_attention", "multi_head_attention_forward")
_SHAPES = ("view", "reshape", "flatten", "unflatten", "squeeze", "unsqueeze", "reshape_as", "view_as", "ravel")
_ORDERS = ("permute", "transpose", "t", "movedim", "swapaxes", "moveaxis", "swapdims")
_PARTS = ("getitem", "chunk", "split", "unbind", "narrow", "select", "tensor_split", "split_with_sizes")
# "get" is that of attributes: x.mT, x.data.
_SAME = (
    "get",
    "contiguous",
    "to",
    "float",
    "type_as",
    "type",
    "clone",
    "detach",
    "alias",
    "expand",
    "expand_as",
    "identity",
)
_SILENT = frozenset((*_SHAPES, *_ORDERS, *_PARTS, *_SAME, "pad", "roll"))
_KINDS = {
    "max_pool2d": "max pool",
    "avg_pool2d": "avg pool",
    "lp_pool2d": "lp pool",
    "linear": "fc",
    "cat": "concat",
    "mul": "multiply",
    "scaled_dot_product_attention": "attention",
    "multi_head_attention_forward": "attention",
    "batch_norm": "bn",
    "layer_norm": "ln",
    "group_norm": "gn",
    "instance_norm": "in",
    "local_response_norm": "lrn",
    "iadd": "add",
    "radd": "add",
    "imul": "mul",
    "hardtanh": "relu6",
}


@dataclass
class Step:
    """A layer as the pass meets it; what follows and changes no shape (normalisation, activation) belongs to it.

    Attributes:
        path: Of the module that computes it.
        kind: What it computes, then what follows.
        shape: Of its output, without the sample dimension, channels last where they are known.
        spread: Whether there are positions left in the output.
        field: What its values see.
        kernel: Height and width of its window; stride and padding likewise.
        inputs: Numbers of the steps whose outputs it takes.
        macs: Multiply-adds.
        weights: Names of parameters that are multiplied with the input.
        biases: Names of those that are added.
        other: Names of the remaining ones: of normalisation, say.
    """

    path: str
    kind: list[str]
    shape: tuple[int, ...]
    spread: bool
    field: Field | None
    kernel: Pair | None = None
    stride: Pair | None = None
    padding: tuple[int, ...] | None = None
    inputs: tuple[int, ...] = ()
    macs: int = 0
    weights: list[str] = dataclasses.field(default_factory=list)
    biases: list[str] = dataclasses.field(default_factory=list)
    other: list[str] = dataclasses.field(default_factory=list)


@dataclass(frozen=True)
class _Trace:
    """What is known of a tensor: the step that made it, what it sees, and how it was padded since."""

    step: int
    seen: Seen
    padded: tuple[int, ...] = (0, 0, 0, 0)


class Tracer(TorchFunctionMode):
    """Notes the steps of a network while it runs inside `with`.

    Attributes:
        steps: In the order of execution; the first is the image.
        peak: Bytes of the activations that were there at the same time, at most.
        path: Where in the network the pass is.
    """

    def __init__(self, image: Tensor, names: Mapping[int, str], counter: FlopCounterMode) -> None:
        super().__init__()
        _, channels, height, width = image.shape
        self.steps = [Step("", ["input"], (height, width, channels), spread=True, field=Field())]
        self.path: list[str] = []
        self.peak = 0
        self._names = names  # id of a parameter → its name
        self._counter = counter
        self._claimed: set[str] = set()
        self._macs = 0  # counted, but of no step yet
        self._traces = WeakTensorKeyDictionary()
        self._learned = WeakTensorKeyDictionary()  # tensors made of parameters alone → their names
        self._traces[image] = _Trace(0, fields.image(height, width, channels))

    def step_of(self, tensor: Tensor) -> int | None:
        """Return the number of the step that made a tensor."""
        return self._traces[tensor].step if tensor in self._traces else None

    def __torch_function__(
        self, func: Callable[..., Any], types: object, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        inputs = [tensor for tensor in _tensors((*args, *kwargs.values())) if tensor in self._traces]
        traces = [self._traces[tensor] for tensor in inputs]  # now: an operation may work in place
        shapes = [tuple(tensor.shape) for tensor in inputs]
        before = self._counter.get_total_flops()
        result = func(*args, **kwargs)
        outputs = list(_tensors([result]))
        if not outputs:
            return result
        self._macs += (self._counter.get_total_flops() - before) // 2
        if inputs:
            self._note(func.__name__.strip("_"), args, kwargs, traces, shapes, outputs)
        else:
            given = _tensors((*args, *kwargs.values()))
            learned = list(dict.fromkeys(name for tensor in given for name in self._names_in(tensor)))
            for output in outputs:
                self._learned[output] = learned
        return result

    def _note(
        self,
        name: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        traces: list[_Trace],
        shapes: list[tuple[int, ...]],
        outputs: list[Tensor],
    ) -> None:
        bound = {**dict(zip(_WINDOWS.get(name, ("input", "weight", "bias")), args, strict=False)), **kwargs}
        learned = self._claim(name, bound, args, kwargs)
        padded = tuple(args[1] if len(args) > 1 else kwargs["pad"]) if name == "pad" else ()
        seen = [_seen(name, bound, args, kwargs, traces, shapes, tuple(output.shape)) for output in outputs]
        seen = [fields.lasting(what, [trace.seen for trace in traces]) for what in seen]
        number = traces[0].step
        if name not in _SILENT:
            same = len({trace.step for trace in traces}) == 1 and tuple(outputs[0].shape) in shapes
            if same and name not in (*_WINDOWS, *_PRODUCTS, "linear", "cat") and not self._macs:
                self._follow(self.steps[number], name, args, kwargs)
            else:
                number = len(self.steps)
                self.steps.append(self._step(name, bound, traces, shapes, outputs[0], seen[0]))
        step = self.steps[number]
        step.macs, self._macs = step.macs + self._macs, 0
        step.field = seen[0].field if name not in _SILENT else step.field
        for group, names in learned.items():
            getattr(step, group).extend(names)
        for output, what in zip(outputs, seen, strict=True):
            self._traces[output] = _Trace(number, what, (*padded[:4], 0, 0, 0, 0)[:4])
        self._weigh()

    def _step(
        self,
        name: str,
        bound: Mapping[str, Any],
        traces: list[_Trace],
        shapes: list[tuple[int, ...]],
        output: Tensor,
        seen: Seen,
    ) -> Step:
        path = self.path[-1] if self.path else ""
        kind = [_kind(name, bound, shapes[0], tuple(output.shape))]
        shape, spread = fields.channels_last(seen, tuple(output.shape))
        shape = shape[1:] if shape[0] == 1 else shape  # windows are samples, too
        step = Step(path, kind, shape, spread, seen.field, inputs=tuple(dict.fromkeys(t.step for t in traces)))
        if name in _WINDOWS:
            step.kernel, step.stride, padding, _ = _window(name, bound)
            top, bottom, left, right = padding[0], padding[0], padding[1], padding[1]
            extra = traces[0].padded
            step.padding = (top + extra[2], bottom + extra[3], left + extra[0], right + extra[1])
        return step

    @staticmethod
    def _follow(step: Step, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        idle = name in ("dropout", "feature_dropout") and not (kwargs["p"] if "p" in kwargs else args[1])
        word = _KINDS.get(name, name)
        if name not in _ADAPTIVE and not idle and word not in step.kind[1:]:
            step.kind.append(word)

    def _claim(
        self, name: str, bound: Mapping[str, Any], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> dict[str, list[str]]:
        """Name the parameters that an operation is the first to use, by what they do in it."""
        found: dict[str, list[str]] = {"weights": [], "biases": [], "other": []}
        weighs = name in ("conv2d", "linear", "conv1d", "conv_transpose2d")
        for tensor in _tensors((*args, *kwargs.values())):
            names = [n for n in self._names_in(tensor) if n not in self._claimed]
            self._claimed.update(names)
            product = name in _PRODUCTS or (weighs and tensor is bound.get("weight"))
            kind = "weights" if product else "biases" if weighs and tensor is bound.get("bias") else "other"
            found[kind] += names
        return found

    def _names_in(self, tensor: Tensor) -> list[str]:
        own = self._names.get(id(tensor))
        if own is not None:
            return [own]
        return list(self._learned[tensor]) if tensor in self._learned else []

    def _weigh(self) -> None:
        storages = {}
        for tensor in list(self._traces):
            storage = tensor.untyped_storage()
            storages[storage._cdata] = storage.nbytes()
        self.peak = max(self.peak, sum(storages.values()))


def _seen(
    name: str,
    bound: Mapping[str, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    traces: list[_Trace],
    shapes: list[tuple[int, ...]],
    after: tuple[int, ...],
) -> Seen:
    """Return what is known of the output of an operation."""
    first, before = traces[0].seen, shapes[0]
    if name in _WINDOWS:
        kernel, stride, _, dilation = _window(name, bound)
        return fields.windowed(first, before, after, kernel, stride, dilation)
    if name in _ADAPTIVE:
        return fields.adapted(first, before, after)
    if name in _REDUCTIONS:
        dims = kwargs.get("dim", args[1] if len(args) > 1 else None)
        dims = range(len(before)) if dims is None else [dims] if isinstance(dims, int) else dims
        return fields.reduced(first, dims, keepdim=len(after) == len(before))
    if name == "linear" or (name == "matmul" and len(traces) == 1):
        return fields.contracted(first, after[-1])
    if name in _SILENT:
        return _viewed(name, args, kwargs, first, before, after)
    if name in _PRODUCTS or (after not in shapes and name != "cat"):  # attention, interpolation
        return Seen(None, None)
    return fields.merged([trace.seen for trace in traces], shapes, after)


def _viewed(
    name: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    seen: Seen,
    before: tuple[int, ...],
    after: tuple[int, ...],
) -> Seen:
    """Return what is known of the same values in another order or shape, or of a part of them."""
    if name in _SHAPES:
        return fields.reshaped(seen, after)
    if name in _ORDERS:
        return fields.permuted(seen, _order(name, args, kwargs, len(before)))
    if before == after:
        return seen
    return Seen(None, seen.field) if name == "get" else fields.resized(seen, before, after)


def _order(name: str, args: Sequence[Any], kwargs: Mapping[str, Any], ndim: int) -> list[int]:
    """Return where each dimension comes from: of the same call on the numbers of the dimensions."""
    import torch

    numbered = torch.empty(tuple(range(2, 2 + ndim)), device="meta")
    moved = getattr(torch, name)(
        numbered, *([args[1:]] if name == "permute" and isinstance(args[1], int) else args[1:]), **kwargs
    )
    return [length - 2 for length in moved.shape]


def _window(name: str, bound: Mapping[str, Any]) -> tuple[Pair, Pair, Pair, Pair]:
    """Return kernel, stride, padding and dilation of a call."""
    kernel = _pair(tuple(bound["weight"].shape[2:]) if name == "conv2d" else bound["kernel_size"])
    given = bound.get("stride")
    stride = _pair(given) if given not in (None, [], ()) else ((1, 1) if name == "conv2d" else kernel)
    dilation = _pair(bound.get("dilation", 1))
    padding = bound.get("padding", 0)
    if isinstance(padding, str):
        same = padding == "same"
        padding = tuple(d * (k - 1) // 2 if same else 0 for d, k in zip(dilation, kernel, strict=True))
    return kernel, stride, _pair(padding), dilation


def _pair(value: Any) -> Pair:  # noqa: ANN401
    if isinstance(value, int):
        return value, value
    return int(value[0]), int(value[-1])


def _kind(name: str, bound: Mapping[str, Any], before: tuple[int, ...], after: tuple[int, ...]) -> str:
    if name == "conv2d":
        groups = bound.get("groups", 1)
        return "conv" if groups == 1 else "depthwise conv" if groups == before[1] else f"conv in {groups} groups"
    if name in _ADAPTIVE or name in ("mean", "amax"):
        what = "max pool" if "max" in name else "avg pool"
        return f"global {what}" if prod(after[2:]) == 1 else f"adaptive {what}"
    return _KINDS.get(name, name.replace("_", " "))


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)
        elif isinstance(value, dict):
            yield from _tensors(value.values())


def attach(network: nn.Module, tracer: Tracer, seen: Callable[[str, object], None]) -> None:
    """Let the modules of a network tell a tracer where the pass is, and hand their outputs on, by path."""
    for path, module in network.named_modules():

        def enter(_: nn.Module, _inputs: object, path: str = path) -> None:
            tracer.path.append(path)

        def leave(_: nn.Module, _inputs: object, output: object, path: str = path) -> None:
            tracer.path.pop()
            seen(path, output)

        module.register_forward_pre_hook(enter)
        module.register_forward_hook(leave)
