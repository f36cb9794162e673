"""Conformance checks of a backbone, in the manner of scikit-learn's `parametrize_with_checks`."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import cache, partial
from typing import TYPE_CHECKING, Any

from tlkit import registry
from tlkit.backbones import Backbone, activations, classifier_parameters, read_taps, state_digest

if TYPE_CHECKING:
    import PIL.Image
    from torch import Tensor

_HEAVY = ("torch", "timm", "sklearn", "pandas", "torchvision")


def backbone_checks(build: Callable[[], Backbone]) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield (name, check) for each promise of a backbone; a check raises AssertionError if it is broken.

    Args:
        build: Builds the backbone; with `weights=None` if its weights are not at hand.

    Example:
        A whole test of a plugin::

            CHECKS = dict(backbone_checks(partial(mynet, weights=None)))

            @pytest.mark.parametrize("name", CHECKS)
            def test_mynet(name):
                CHECKS[name]()
    """
    once = cache(build)
    for check in (
        _builds_twice_alike,
        _importing_the_plugin_is_light,
    ):
        yield _title(check), partial(check, build, once)
    for check_one in (
        _forward_gives_a_row_of_classes_for_each_image,
        _training_gives_one_tensor_too,
        _auxiliary_classifiers_fit_where_they_look,
        _the_pool_tap_is_what_enters_the_classifier,
        _taps_are_named_ordered_and_as_described,
        _stages_cover_the_trunk_and_nothing_twice,
        _rows_do_not_depend_on_the_batch,
        _preprocess_makes_pixels_of_the_input_size,
        _a_pass_leaves_the_state_as_it_was,
    ):
        yield _title(check_one), partial(_run, check_one, once)


def _title(check: Callable[..., None]) -> str:
    return check.__name__.strip("_").replace("_", " ")


def _run(check: Callable[[Backbone], None], once: Callable[[], Backbone]) -> None:
    check(once())


def _demand(holds: object, complaint: str) -> None:
    if not holds:
        raise AssertionError(complaint)


def _builds_twice_alike(build: Callable[[], Backbone], once: Callable[[], Backbone]) -> None:
    first, second = once(), build()
    for field in ("name", "taps", "stages", "preprocess", "weights", "recipe", "reference", "spec"):
        one, other = getattr(first, field), getattr(second, field)
        _demand(one == other, f"{field} differs between two builds: {one} and {other}.")
    shapes, others = ({k: v.shape for k, v in b.module.state_dict().items()} for b in (first, second))
    _demand(shapes == others, "the tensors of two builds have other names or shapes.")
    _demand(
        {"name", "weights"} <= set(first.spec), f"spec {first.spec} lacks 'name' or 'weights': it cannot build again."
    )


def _importing_the_plugin_is_light(build: Callable[[], Backbone], once: Callable[[], Backbone]) -> None:
    module = _plugin_module(build, once)
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; import {module}; print([m for m in {_HEAVY!r} if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    _demand(told.returncode == 0, f"{module} cannot be imported on its own: {told.stderr.strip()[-300:]}")
    heavy = told.stdout.strip()
    _demand(heavy == "[]", f"importing {module} imports {heavy}: move these imports into the function that builds.")


def _plugin_module(build: Callable[[], Backbone], once: Callable[[], Backbone]) -> str:
    """The module of the entry point that the backbone's spec names, or else of the function that builds it."""
    found = registry.entry_points("backbone").get(once().spec.get("name", ""))
    if found:
        return found[0].module
    return str(build.func.__module__ if isinstance(build, partial) else build.__module__)


def _forward_gives_a_row_of_classes_for_each_image(backbone: Backbone) -> None:
    import torch

    batch = _batch(backbone)
    with torch.inference_mode():
        logits = backbone.module.eval()(batch)
    _demand(isinstance(logits, torch.Tensor), f"forward returns {type(logits).__name__}, not one tensor.")
    wanted = (len(batch), backbone.module.num_classes or backbone.tap("pool").channels)
    _demand(tuple(logits.shape) == wanted, f"forward gives {tuple(logits.shape)}, not {wanted}.")
    _demand(bool(logits.isfinite().all()), "forward gives infinities or NaN.")


def _training_gives_one_tensor_too(backbone: Backbone) -> None:
    import torch

    module = deepcopy(backbone.module).train()  # whose statistics move
    with torch.no_grad():
        logits = module(_batch(backbone))
    kind = type(logits).__name__
    _demand(isinstance(logits, torch.Tensor), f"forward returns {kind} in training, not one tensor: hide the others.")


def _auxiliary_classifiers_fit_where_they_look(backbone: Backbone) -> None:
    import torch

    module: Any = deepcopy(backbone.module).eval()
    if not hasattr(module, "auxiliary_classifiers"):
        return
    _demand(isinstance(getattr(module, "auxiliary_weight", None), float), "auxiliary_weight is not a number.")
    seen: dict[str, Tensor] = {}
    classifiers = module.auxiliary_classifiers(3)
    for path in classifiers:
        part = module.get_submodule(path)
        _demand(
            next(part.parameters(), None) is not None, f"{path}, which an auxiliary classifier sees, learns nothing."
        )
        part.register_forward_hook(lambda _part, _inputs, output, path=path: seen.__setitem__(path, output))
    batch = _batch(backbone)
    with torch.inference_mode():
        module(batch)
        for path, classifier in classifiers.items():
            shape = tuple(classifier.eval()(seen[path]).shape)
            _demand(shape == (len(batch), 3), f"the auxiliary classifier of {path} gives {shape} for 3 classes.")


def _the_pool_tap_is_what_enters_the_classifier(backbone: Backbone) -> None:
    import torch

    batch = _batch(backbone)
    module: Any = backbone.module.eval()
    with torch.inference_mode():
        codes = module.forward_head(module.forward_features(batch), pre_logits=True).flatten(1)
        pool = read_taps(backbone, batch, ["pool"])["pool"]
    _demand(torch.equal(codes, pool), "the tap 'pool' is not forward_head(forward_features(x), pre_logits=True).")
    _demand(
        pool.shape[1] == backbone.tap("pool").channels, f"codes have length {pool.shape[1]}, the tap says otherwise."
    )


def _taps_are_named_ordered_and_as_described(backbone: Backbone) -> None:
    import torch

    names = [tap.name for tap in backbone.taps]
    _demand(len(set(names)) == len(names), f"two taps have one name: {names}.")
    _demand(names[-1] == "pool", f"the last tap is {names[-1]!r}, not 'pool'.")
    batch = _batch(backbone)
    for tap, codes in zip(backbone.taps, read_taps(backbone, batch, names).values(), strict=True):
        _demand(codes.dtype == torch.float32, f"codes of {tap.name} are {codes.dtype}, not float32.")
        wanted = (len(batch), tap.channels)
        _demand(tuple(codes.shape) == wanted, f"codes of {tap.name} are {tuple(codes.shape)}, not {wanted}.")
        _demand(bool(codes.isfinite().all()), f"codes of {tap.name} have infinities or NaN.")
    _demand(_in_order(backbone, batch) == names[:-1], f"the taps {names} are not in the order of the pass.")


def _in_order(backbone: Backbone, batch: Tensor) -> list[str]:
    import torch

    seen: list[str] = []
    handles = []
    for tap in backbone.taps[:-1]:

        def note(*_: object, name: str = tap.name) -> None:
            seen.append(name)

        handles.append(backbone.module.get_submodule(tap.module).register_forward_hook(note))
    try:
        with torch.inference_mode():
            activations(backbone.module.eval(), batch, [backbone.tap("pool")])
    finally:
        for handle in handles:
            handle.remove()
    return list(dict.fromkeys(seen))


def _stages_cover_the_trunk_and_nothing_twice(backbone: Backbone) -> None:
    classifier = classifier_parameters(backbone.module)
    trunk = {name for name, _ in backbone.module.named_parameters()} - classifier
    staged = [name for stage in backbone.stages for name in stage.parameters]
    twice = {name for name in staged if staged.count(name) > 1}
    _demand(not twice, f"parameters are in two stages: {sorted(twice)[:3]}.")
    _demand(set(staged) >= trunk, f"parameters are in no stage: {sorted(trunk - set(staged))[:3]}.")
    _demand(set(staged) <= trunk, f"stages hold what is not the trunk's: {sorted(set(staged) - trunk)[:3]}.")
    names = [stage.name for stage in backbone.stages]
    _demand(len(set(names)) == len(names), f"two stages have one name: {names}.")


def _rows_do_not_depend_on_the_batch(backbone: Backbone) -> None:
    import torch

    batch = _batch(backbone)
    first, second = (read_taps(backbone, batch, ["pool"])["pool"] for _ in range(2))
    _demand(
        torch.equal(first, second), "the same images give other codes the second time: is something random in eval?"
    )
    alone = read_taps(backbone, batch[:1], ["pool"])["pool"]
    gap = float((alone - first[:1]).abs().max() / first.abs().max().clamp_min(1e-12))
    _demand(gap <= 1e-4, f"an image's codes change by {gap:.1e} (relative) with the images beside it.")


def _preprocess_makes_pixels_of_the_input_size(backbone: Backbone) -> None:
    pixels = backbone.preprocess.pixels(_photo())
    _demand(str(pixels.dtype) == "uint8", f"preprocess gives {pixels.dtype}, not uint8.")
    channels, height, width = backbone.preprocess.input_size
    wanted = (height, width, channels)
    _demand(pixels.shape == wanted, f"preprocess gives {pixels.shape}, not the input size {wanted}.")


def _a_pass_leaves_the_state_as_it_was(backbone: Backbone) -> None:
    before = state_digest(backbone.module)
    read_taps(backbone, _batch(backbone), [tap.name for tap in backbone.taps])
    _demand(before == state_digest(backbone.module), "a pass in eval mode changes parameters or buffers.")
    recorded = backbone.weights.sha256 if backbone.weights else before
    _demand(recorded == before, "weights.sha256 is not the state_digest of the module.")


def _photo() -> PIL.Image.Image:
    import PIL.Image
    from sklearn.datasets import load_sample_image

    return PIL.Image.fromarray(load_sample_image("china.jpg")).resize((160, 107))


def _batch(backbone: Backbone) -> Tensor:
    """Three parts of a photo, as the network sees them."""
    import torch

    photo = _photo()
    parts = [photo, photo.crop((0, 0, 100, 107)), photo.crop((40, 20, 160, 100))]
    pixels = torch.stack([torch.from_numpy(backbone.preprocess.pixels(part)) for part in parts])
    return backbone.preprocess.normalise(pixels)
