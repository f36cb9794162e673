"""Where the evidence for a class is: Grad-CAM and guided back-propagation, by captum, for any differentiable score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from tlkit.backbones import activations
from tlkit.backbones.taps import evaluating
from tlkit.errors import UsageError
from tlkit.heads.affine_head import AffineHead
from tlkit.visualize.rectified import ACTIVATIONS, Rectified

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tlkit.backbones import Backbone, Tap
    from tlkit.classifier import Classifier
    from tlkit.heads.scaling import Scale


@dataclass(frozen=True)
class Scores:
    """From a normalised batch (n, C, H, W) to a head's scores (n, k) float32, with gradients, on a device."""

    function: Callable[[Tensor], Tensor]
    device: torch.device

    def __call__(self, batch: Tensor) -> Tensor:
        """Return the scores of a batch."""
        return self.function(batch)


def class_scores(classifier: Classifier) -> Scores:
    """Return the scores of a classifier as a function of images, on the device of its network.

    They are the scores before the temperature and the softmax, of the image itself and not of further views.

    Raises:
        UsageError: the head's score has no gradient.
    """
    head, backbone = classifier.head, classifier.backbone
    if not isinstance(head, AffineHead):
        raise UsageError(
            "nearest neighbours vote, so the run's head has no score with a gradient. Fit once more with another one: "
            "strategy.head=svm costs no pass through the network."
        )
    taps = [backbone.tap(name) for name in classifier.taps]
    pooling = classifier.recipe.get("pooling", "avg")
    device = next(backbone.module.parameters()).device
    coef, intercept = (torch.from_numpy(array).to(device) for array in (head.coef_, head.intercept_))

    def scores(batch: Tensor) -> Tensor:
        found = activations(backbone.module, batch, taps, pooling)
        codes = torch.cat([found[tap.name] for tap in taps], dim=1)
        return _rowwise(codes, head.scale_, head.parts) @ coef.T + intercept

    return Scores(scores, device)


def _rowwise(codes: Tensor, scale: Scale, parts: Sequence[int] | None) -> Tensor:
    """Do what `tlkit.heads.scaling.rowwise` does, with gradients."""
    if scale not in ("l2", "power"):
        return codes
    each = torch.split(codes, list(parts), dim=1) if parts else (codes,)
    scaled = [_unit(_root(part) if scale == "power" else part) for part in each]
    share: float = len(each) ** -0.5
    return torch.cat(scaled, dim=1) * share


def _root(codes: Tensor) -> Tensor:
    """Return the signed square root; where its slope is infinite, at 0, no signal passes back."""
    empty = codes == 0
    return codes.sign() * torch.where(empty, 1.0, codes.abs()).sqrt() * ~empty


def _unit(codes: Tensor) -> Tensor:
    length = codes.double().square().sum(1, keepdim=True)
    return (codes / torch.where(length == 0, 1.0, length).sqrt()).to(codes.dtype)


def map_taps(classifier: Classifier, wanted: str | None = None) -> list[Tap]:
    """Return the taps that have a map of more than one position and act on the scores, deepest first.

    Args:
        classifier: whose scores.
        wanted: the name of one, which is then the only one returned.

    Raises:
        UsageError: there is none, or the wanted one is not among them.
    """
    backbone = classifier.backbone
    names = [tap.name for tap in backbone.taps]
    deepest = max(names.index(name) for name in classifier.taps)
    found = [tap for tap in backbone.taps[: deepest + 1] if _grid(tap, backbone.preprocess.input_size) is not None]
    if not found:
        raise UsageError(f"{backbone.name} has no tap with a map of several positions, so there is no Grad-CAM of it.")
    if wanted is not None:
        backbone.tap(wanted)  # raises if the network has no such tap
        if wanted not in [tap.name for tap in found]:
            raise UsageError(
                f"tap={wanted}: no map that the scores depend on. Such are {', '.join(t.name for t in found)}."
            )
    return [tap for tap in found[::-1] if wanted in (None, tap.name)]


def _grid(tap: Tap, input_size: tuple[int, int, int]) -> tuple[int, int] | None:
    """Return height and width of a map; None where it has no space left."""
    if tap.reduction is None:
        return None
    height, width = (max(1, -(-side // tap.reduction)) for side in input_size[1:])
    return (height, width) if height * width > 1 else None


def grad_cam(
    backbone: Backbone, scores: Scores, batch: Tensor, labels: NDArray[np.int64], taps: Sequence[Tap]
) -> tuple[Tap, NDArray[np.float32]]:
    """Return where the evidence for a class is (Selvaraju et al. 2017, "Grad-CAM", section 3).

    Args:
        backbone: the network.
        scores: of the classes, from `class_scores`.
        batch: (n, C, H, W), normalised.
        labels: (n,) the class of each image.
        taps: whose map is taken: the first one with a gradient. The last map of a vision transformer with a class
            token has none.

    Returns:
        the tap that was taken, and (n, H, W) float32, 0 or more, in the size of the images.
    """
    from captum.attr import LayerAttribution, LayerGradCam

    images, targets = batch.detach().clone().requires_grad_(), torch.as_tensor(labels, device=batch.device)
    for tap in taps:
        maps = _Maps(tap, backbone.preprocess.input_size, len(batch))
        handle = backbone.module.get_submodule(tap.module).register_forward_hook(maps.hook)
        try:
            with evaluating(backbone.module):
                found = LayerGradCam(scores, maps).attribute(images, targets)
        finally:
            handle.remove()
        if found.any():
            break
    large = LayerAttribution.interpolate(found.detach().clamp(min=0), tuple(batch.shape[2:]), "bilinear")
    return tap, large[:, 0].float().cpu().numpy()


class _Maps(nn.Module):
    """Stands where a tap is, and shows its output as captum wants it: (n, C, height, width)."""

    def __init__(self, tap: Tap, input_size: tuple[int, int, int], n: int) -> None:
        super().__init__()
        self.n = n
        self.tap = tap
        self.grid = _grid(tap, input_size) or (1, 1)

    def forward(self, maps: Tensor) -> Tensor:
        return maps.clone()

    def hook(self, module: nn.Module, inputs: object, output: Any) -> Any:  # noqa: ANN401
        """Let the output of the tap's module pass through `forward` in that layout."""
        if isinstance(output, list | tuple):
            fits = [torch.is_tensor(part) and part.ndim > 1 and len(part) == self.n for part in output]
            first = fits.index(True)  # the one that a tap takes
            return type(output)(self._seen(part) if i == first else part for i, part in enumerate(output))
        return self._seen(output)

    def _seen(self, output: Tensor) -> Tensor:
        seen: Tensor  # a copy, as what follows may work in place
        if self.tap.layout == "NCHW":
            seen = self(output).clone()
        elif self.tap.layout == "NHWC":
            seen = self(output.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).clone()
        else:
            n, length, channels = output.shape
            height, width = self.grid
            prefix = length - height * width
            maps = self(output[:, prefix:].transpose(1, 2).reshape(n, channels, height, width))
            seen = torch.cat([output[:, :prefix], maps.flatten(2).transpose(1, 2)], dim=1)
        return seen


def guided(
    backbone: Backbone, scores: Scores, batch: Tensor, labels: NDArray[np.int64]
) -> tuple[NDArray[np.float32], str]:
    """Return guided back-propagation of the class scores to the input, (n, C, H, W), and what it may be called.

    Springenberg et al. 2015, section 3.4. Where a network has other activations than ReLUs, the gradient is what goes
    back there; without any ReLU the result is the plain gradient of Simonyan et al. 2014, and is called that.
    """
    from captum.attr import Saliency

    images = batch.detach().clone().requires_grad_()
    with evaluating(backbone.module), Rectified("guided") as rule:
        found = Saliency(scores).attribute(images, torch.as_tensor(labels, device=batch.device), abs=False)
    plain = [name for name in rule.others if name in ACTIVATIONS.values()]
    return found.detach().cpu().numpy(), _caption(rule.relus, plain)


def _caption(relus: int, plain: Sequence[str]) -> str:
    """Say what a backward pass with so many ReLUs, and these other activations, is.

    >>> _caption(0, ["SiLU"]), _caption(3, ["SiLU"]), _caption(3, [])
    ('plain saliency (SiLU, no ReLU)', 'guided backprop (3 ReLUs; SiLU by its gradient)', 'guided backprop')
    """
    if not relus:
        return f"plain saliency ({', '.join([*plain, 'no ReLU'])})"
    return "guided backprop" + (f" ({relus} ReLUs; {', '.join(plain)} by its gradient)" if plain else "")
