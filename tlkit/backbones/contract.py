"""What a backbone is: a network with named taps, ordered stages, its own preprocess and where its weights come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, final

from tlkit.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

    from tlkit.data import Preprocess

Layout = Literal["NC", "NLC", "NCHW", "NHWC"]


@dataclass(frozen=True)
class Tap:
    """A named point of a network where activations are taken and pooled to codes.

    Attributes:
        name: What users write, `tap=blocks.4`.
        module: Path of the module whose output is taken; "" for "pool", which is what `forward_head` makes.
        channels: Length d of the codes.
        reduction: Pixels of the input for one step of the map, or None where no space is left.
        layout: The output's dimensions: sample (N), channels (C), token (L), height and width.
        tokens: First and last (exclusive; None: the end) of the tokens that are averaged; (0, 1) is a class token.
    """

    name: str
    module: str
    channels: int
    reduction: int | None
    layout: Layout
    tokens: tuple[int, int | None] = (0, None)


@dataclass(frozen=True)
class Stage:
    """Layers that are frozen or trained together; `parameters` are names as in `module.named_parameters()`."""

    name: str
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class Weights:
    """Where the numbers in a network come from.

    Attributes:
        source: The hub repository, folder or file.
        sha256: Of the tensors in the module after loading, see `state_digest`.
        num_classes: Outputs of the classifier that came with them; 0 without one.
        license: As published, such as "apache-2.0".
        url: Where they, or their description, were published.
        dataset: What they were trained on, such as "ImageNet-1k".
        class_names: Names of the classifier's outputs, in order.
        trained: Whether a strategy made them: then they are nowhere but in the classifier that is saved with them.
    """

    source: str
    sha256: str
    num_classes: int
    license: str | None = None
    url: str | None = None
    dataset: str | None = None
    class_names: tuple[str, ...] | None = None
    trained: bool = False


@dataclass(frozen=True)
class Recipe:
    """How the network was trained originally; None where the paper does not say."""

    optimizer: Literal["sgd", "rmsprop", "adamw"]
    lr: float | None
    batch_size: int | None
    momentum: float | None
    weight_decay: float | None
    schedule: str | None


@dataclass(frozen=True)
class Reference:
    """The paper and what it claims; a test or a summary compares.

    Attributes:
        paper: Title.
        authors: As cited.
        year: Of the first version.
        url: Of the paper.
        params: Everything that is learned.
        macs: Multiply-adds of one image.
        top1: ImageNet validation accuracy in percent.
        top5: The same, with five guesses.
        note: How the figures were measured.
    """

    paper: str
    authors: str
    year: int
    url: str
    params: float | None = None
    macs: float | None = None
    top1: float | None = None
    top5: float | None = None
    note: str | None = None


@final
@dataclass(frozen=True, eq=False)
class Backbone:
    """A network ready for transfer learning; plugins build it (`from_timm`, `from_module`), nobody subclasses it.

    Attributes:
        name: As the user chose it, such as "vgg16" or "timm/resnet50.a1_in1k".
        module: A network that meets timm's model interface: `forward`, `forward_features`,
            `forward_head(x, pre_logits=)`, `get_classifier`, `reset_classifier`, `num_classes`, `num_features`. Each
            returns one tensor, also in training. Auxiliary classifiers are an optional part: where the module has
            `auxiliary_classifiers(num_classes)`, which returns new ones by the path of the part of the network whose
            output (n, C, H, W) each turns into logits (n, num_classes), strategies that train add their losses,
            times the module's `auxiliary_weight`. They learn beside the network and are no part of it: codes,
            validation and what is saved know nothing of them. Such a part has parameters, and nothing that comes
            after it changes its output in place.
        taps: Ordered from input to output; the last is "pool", what enters the classifier (the CNN codes).
        stages: Ordered, disjoint, covering every parameter outside the classifier.
        preprocess: From a decoded image to the network's input.
        weights: None if they are random.
        recipe: How the original was trained.
        reference: The paper.
        spec: The registry settings that build it again.
    """

    name: str
    module: nn.Module
    taps: tuple[Tap, ...]
    stages: tuple[Stage, ...]
    preprocess: Preprocess
    weights: Weights | None
    recipe: Recipe | None
    reference: Reference | None
    spec: dict[str, Any]

    def tap(self, name: str) -> Tap:
        """Return the tap of that name.

        Raises:
            UsageError: there is none.
        """
        known = {tap.name: tap for tap in self.taps}
        if name not in known:
            hint = did_you_mean(name, known)
            raise UsageError(f"{self.name} has no tap {name!r}.{hint} Taps: {', '.join(known)}.")
        return known[name]
