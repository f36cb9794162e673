"""What a network consists of, as in the tables of lecture notes: one row a layer, counted by torch on a dry run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from math import isinf, prod
from typing import TYPE_CHECKING, Any, Literal

from tlkit.backbones.contract import Backbone, Reference
from tlkit.backbones.stages import classifier_parameters
from tlkit.backbones.taps import POOL, evaluating, without_numbers
from tlkit.errors import TlkitError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tlkit.backbones.fields import Field
    from tlkit.backbones.tracing import Step, Tracer

Pair = tuple[int, int]
FLOAT = 4  # bytes of a number in float32
_KEPT = {"sgd": 1, "rmsprop": 2, "adamw": 2}  # numbers that an optimizer remembers of each parameter


@dataclass(frozen=True)
class Layer:
    """One row: a layer, and the normalisation and activation that follow it.

    Attributes:
        name: Path of the module that computes it.
        kind: "conv + bn + relu": what it computes, then what follows.
        kernel: Height and width of its window; None without one.
        stride: The same.
        padding: Rows above, below, columns left and right.
        output: (H, W, C), (tokens, C) or (C,); as it is where nothing tells what is a channel.
        activations: Values that it puts out for one image; what follows in place adds none.
        weights: Learned factors.
        biases: Learned summands.
        other: What else is learned: scales and shifts of normalisation, embeddings.
        macs: Multiply-adds for one image.
        field: Height and width, in pixels, of what a value sees; "image" for all of it; None where attention or the
            like has mixed positions, so that arithmetic does not tell.
        jump: Distance of the fields of two neighbours, in pixels; None likewise, and where no space is left.
        inputs: Numbers of the rows, from 0, whose outputs it takes.
        taps: Names of the taps that take this output.
        stages: What its parameters are frozen or trained with, "classifier" after the last; more than one where the
            normalisation that follows belongs to a stage of its own.
    """

    name: str
    kind: str
    kernel: Pair | None
    stride: Pair | None
    padding: tuple[int, int, int, int] | None
    output: tuple[int, ...]
    activations: int
    weights: int
    biases: int
    other: int
    macs: int
    field: Pair | Literal["image"] | None
    jump: Pair | None
    inputs: tuple[int, ...]
    taps: tuple[str, ...]
    stages: tuple[str, ...]


@dataclass(frozen=True)
class Summary:
    """A network, layer by layer; the first row is the image.

    Attributes:
        backbone: Name.
        input_size: Channels, height, width.
        layers: In the order of execution.
        unused: Parameters that take no part in a forward pass: those of auxiliary classifiers.
        peak: Most bytes of activations that are there at once in a forward pass of one image without gradients.
        kept: Bytes that autograd keeps of one image for the backward pass.
        buffers: Bytes of what is stored and not learned, such as moving statistics.
        remembered: Numbers that the original optimizer remembers of each parameter.
        reference: What is published.
    """

    backbone: str
    input_size: tuple[int, int, int]
    layers: tuple[Layer, ...]
    unused: int
    peak: int
    kept: int
    buffers: int
    remembered: int
    reference: Reference | None

    @property
    def params(self) -> int:
        """Everything that is learned."""
        return self.unused + sum(layer.weights + layer.biases + layer.other for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-adds of one image."""
        return sum(layer.macs for layer in self.layers)

    @property
    def activations(self) -> int:
        """Values that all layers put out for one image, which is among them."""
        return sum(layer.activations for layer in self.layers)

    def forward_bytes(self, batch: int) -> int:
        """Memory of a forward pass without gradients: the network, and the activations that are there at once."""
        return FLOAT * self.params + self.buffers + batch * self.peak

    def training_bytes(self, batch: int) -> int:
        """Memory of a training step in float32: parameters, gradients, optimizer, and what backward needs.

        Left out are what one operation needs while it runs, and masks of dropout.
        """
        return FLOAT * self.params * (2 + self.remembered) + self.buffers + batch * self.kept


def summarize(backbone: Backbone, input_size: tuple[int, int, int] | None = None) -> Summary:
    """Measure every layer of a network; numbers are not needed, so it may be on torch's "meta" device.

    Args:
        backbone: The network.
        input_size: Channels, height, width, if not the backbone's own.

    Raises:
        TlkitError: the network cannot take images of that size.
    """
    size = input_size or backbone.preprocess.input_size
    try:
        return _measured(without_numbers(backbone.module), backbone, size)
    except (RuntimeError, NotImplementedError) as err:
        if not any(parameter.is_meta for parameter in backbone.module.parameters()):
            with suppress(Exception):  # it may mix in tensors that are neither parameters nor buffers
                return _measured(deepcopy(backbone.module), backbone, size)
        raise _refused(backbone, size, err) from err
    except Exception as err:  # networks refuse a size in many ways
        raise _refused(backbone, size, err) from err


def _refused(backbone: Backbone, size: tuple[int, int, int], err: Exception) -> TlkitError:
    own = "x".join(map(str, backbone.preprocess.input_size[1:]))
    why = (str(err).strip().splitlines() or [type(err).__name__])[0].rstrip(".")
    return TlkitError(
        f"{backbone.name} cannot be run on images of {size[1]}x{size[2]}: {why}. Its own size is {own}; give another "
        "data.input_size, or none."
    )


def _measured(network: nn.Module, backbone: Backbone, size: tuple[int, int, int]) -> Summary:
    tracer, taps = _trace(network, backbone, size)
    kept = _kept(network, size)
    counts = {name: parameter.numel() for name, parameter in network.named_parameters()}
    used = {name for step in tracer.steps for name in (*step.weights, *step.biases, *step.other)}
    rows = zip(tracer.steps, _stages(backbone, tracer.steps), strict=True)
    return Summary(
        backbone=backbone.name,
        input_size=size,
        layers=tuple(_layer(step, stages, taps.get(n, ()), counts) for n, (step, stages) in enumerate(rows)),
        unused=sum(counts.values()) - sum(counts[name] for name in used),
        peak=tracer.peak,
        kept=kept,
        buffers=sum(buffer.numel() * buffer.element_size() for buffer in network.buffers()),
        remembered=_KEPT[backbone.recipe.optimizer] if backbone.recipe else 1,
        reference=backbone.reference,
    )


def _trace(
    network: nn.Module, backbone: Backbone, size: tuple[int, int, int]
) -> tuple[Tracer, dict[int, tuple[str, ...]]]:
    """Run one image through a network; return its steps, and the taps of some of them."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from tlkit.backbones.tracing import Tracer, attach

    image = torch.zeros(1, *size, device=next(network.parameters()).device)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    at: dict[str, list[str]] = {}
    for tap in backbone.taps:
        at.setdefault(tap.module, []).append(tap.name)
    taps: dict[int, tuple[str, ...]] = {}

    def mark(tensors: object, found: list[str]) -> None:
        for tensor in _tensors(tensors):
            step = tracer.step_of(tensor)
            if step is not None:
                taps[step] = tuple(dict.fromkeys((*taps.get(step, ()), *found)))
                return

    copy = deepcopy(network, {id(parameter): parameter for parameter in network.parameters()})
    with FlopCounterMode(display=False) as counter, torch.no_grad(), evaluating(copy):
        tracer = Tracer(image, names, counter)
        attach(copy, tracer, lambda path, output: mark(output, at[path]) if path and path in at else None)
        for classifier in _classifiers(copy)[:1]:
            classifier.register_forward_pre_hook(lambda _, inputs: mark(inputs, [POOL]))
        with tracer:
            copy(image)
    return tracer, taps


def _kept(network: nn.Module, size: tuple[int, int, int]) -> int:
    """Bytes that autograd keeps of one image, parameters and buffers aside; two values in one place count once."""
    import torch

    own = {t.untyped_storage()._cdata for t in (*network.parameters(), *network.buffers())}
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            storages[storage._cdata] = storage.nbytes()
        return tensor

    trained = network.requires_grad_()
    image = torch.zeros(1, *size, device=next(network.parameters()).device)
    hooks = torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)
    with evaluating(trained), torch.enable_grad(), hooks:
        result = trained(image)
    del result
    return sum(storages.values())


def _classifiers(network: nn.Module) -> list[nn.Module]:
    model: Any = network
    found = model.get_classifier()
    return list(found) if isinstance(found, list | tuple) else [found]


def _tensors(value: object) -> Iterator[Tensor]:
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from _tensors(part)


def _stages(backbone: Backbone, steps: list[Step]) -> list[tuple[str, ...]]:
    """Name the stages of each step: that of its parameters, or of its module's; else that of the step before it."""
    stage_of = {name: stage.name for stage in backbone.stages for name in stage.parameters}
    stage_of |= dict.fromkeys(classifier_parameters(backbone.module), "classifier")
    below: dict[str, set[str]] = {}
    for name, stage in stage_of.items():
        parts = name.split(".")
        for depth in range(1, len(parts)):
            below.setdefault(".".join(parts[:depth]), set()).add(stage)
    stages: list[tuple[str, ...]] = []
    for step in steps:
        own = [stage_of[name] for name in (*step.weights, *step.biases)]
        around = below.get(step.path, set())
        own = own or (list(around) if len(around) == 1 else [])
        own += [stage_of[name] for name in step.other]
        stages.append(tuple(dict.fromkeys(own)) or (stages[-1][:1] if stages else ()))
    first = {names[0] for names in stages if names}
    return [(*names[:1], *(name for name in names[1:] if name not in first)) for names in stages]


def _layer(step: Step, stages: tuple[str, ...], taps: tuple[str, ...], counts: Mapping[str, int]) -> Layer:
    padding = step.padding
    return Layer(
        name=step.path,
        kind=" + ".join(step.kind),
        kernel=step.kernel,
        stride=step.stride,
        padding=None if padding is None else (padding[0], padding[1], padding[2], padding[3]),
        output=step.shape,
        activations=prod(step.shape),
        weights=sum(counts[name] for name in step.weights),
        biases=sum(counts[name] for name in step.biases),
        other=sum(counts[name] for name in step.other),
        macs=step.macs,
        field=_size(step.field),
        jump=step.field.jump if step.field is not None and step.spread else None,
        inputs=step.inputs,
        taps=taps,
        stages=stages,
    )


def _size(field: Field | None) -> Pair | Literal["image"] | None:
    if field is None:
        return None
    height, width = field.size
    return "image" if isinf(height) and isinf(width) else (int(min(height, 1e9)), int(min(width, 1e9)))
