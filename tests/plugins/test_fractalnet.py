"""FractalNet: the expansion rule, single columns, drop-path, and no way around a convolution."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tlkit_plugins.networks.fractalnet import Fractal, FractalNet, joins, local_paths
from torch import Tensor, nn
from torch.nn import functional

from tlkit import registry
from tlkit.backbones import Backbone, count_params
from tlkit.codes.engines.digests import structure_digest
from tlkit.errors import UsageError


def build(**chosen: object) -> Backbone:
    backbone: Backbone = registry.build("backbone", {"name": "fractalnet", "weights": None, "width": 4, **chosen})
    return backbone


def randomised(module: Any) -> Any:  # noqa: ANN401
    """Norms have numbers of their own, as after training."""
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.uniform_(-0.2, 0.2)  # type: ignore[union-attr]
            part.running_var.uniform_(0.5, 1.5)  # type: ignore[union-attr]
            if part.affine:
                nn.init.uniform_(part.weight, 0.5, 1.5)
                nn.init.uniform_(part.bias, 0, 0.5)
    return module.eval()


def expanded(block: Any, columns: int, x: Tensor, used: list[int]) -> list[Tensor]:  # noqa: ANN401
    """The inputs of the last join of f_columns(x), by the rule itself: f(f(x)) of one column less, beside conv(x)."""
    column = len(block.columns) - columns
    own = block.columns[column][used[column]](x)
    used[column] += 1
    if columns == 1:
        return [own]
    half = torch.stack(expanded(block, columns - 1, x, used)).mean(0)
    return [own, *expanded(block, columns - 1, half, used)]


@pytest.mark.parametrize("columns", [1, 2, 3, 4, 5])
def test_a_fractal_follows_the_expansion_rule(columns: int) -> None:
    block = randomised(Fractal(3, 8, columns, 0.15))
    x, used = torch.randn(2, 3, 8, 8), [0] * columns
    with torch.inference_mode():
        wanted = torch.stack(expanded(block, columns, x, used)).mean(0)
        assert torch.allclose(block(x), wanted, atol=1e-6)
    assert used == [2**column for column in range(columns)]


@pytest.mark.parametrize(("columns", "millions"), [(1, 0.3), (2, 0.8), (3, 2.1), (4, 4.8), (5, 10.2), (6, 21.1)])
def test_parameters_are_those_of_the_papers_table_of_depths(columns: int, millions: float) -> None:
    with torch.device("meta"):
        module: Any = FractalNet((16, 32, 64, 128, 128), columns, num_classes=100)
    assert round(count_params(module) / 1e6, 1) == millions
    assert sum(len(stage.columns[-1]) for stage in module.stages) == (5, 10, 20, 40, 80, 160)[columns - 1]


def test_five_fractals_with_pooling_between() -> None:
    with torch.device("meta"):
        backbone = build(width=64)
    assert [(tap.name, tap.channels, tap.reduction) for tap in backbone.taps] == [
        *[(f"stages.{number}", maps, 2**number) for number, maps in enumerate((64, 128, 256, 512, 512))],
        ("pool", 512, None),
    ]
    assert [stage.name for stage in backbone.stages] == [f"stages.{number}" for number in range(5)]


@pytest.mark.parametrize("column", [1, 2, 3, 4])
def test_a_column_alone_is_the_plain_chain_of_its_convolutions(column: int) -> None:
    backbone = build(column=column)
    module = randomised(backbone.module)
    x = images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        for stage in module.stages:
            for layer in stage.columns[column - 1]:
                x = functional.conv2d(x, layer.conv.weight, padding=1)
                mean, var = layer.norm_alone.running_mean, layer.norm_alone.running_var
                x = functional.batch_norm(x, mean, var, layer.norm.weight, layer.norm.bias).relu()
            x = functional.max_pool2d(x, 2)
        assert torch.allclose(module(images), module.fc(x.flatten(1)), atol=1e-5)
    assert backbone.spec["column"] == column


def test_the_full_network_its_columns_and_random_paths_all_run_and_differ() -> None:
    module, images = randomised(build().module), torch.randn(2, 3, 32, 32)
    outputs = []
    with torch.inference_mode():
        for module.column in (None, 0, 1, 2, 3):
            outputs.append(module(images))
        for seed in (1, 2):
            torch.manual_seed(seed)
            x = images
            for stage in module.stages:
                x = functional.max_pool2d(stage.along(x, local_paths(4, 0.15))[0], 2)
            outputs.append(module.forward_head(x))
    assert all(output.isfinite().all() and output.shape == (2, 10) for output in outputs)
    assert len({tuple(output.flatten().tolist()) for output in outputs}) == len(outputs)


def test_codes_of_one_column_are_never_taken_for_those_of_another() -> None:
    torch.manual_seed(0)
    assert len({structure_digest(build(column=column)) for column in (None, 1, 2, 3, 4)}) == 5


@settings(deadline=None)
@given(columns=st.integers(1, 6), drop=st.floats(0, 1), seed=st.integers(0, 2**32 - 1))
def test_a_join_keeps_at_least_one_of_its_inputs(columns: int, drop: float, seed: int) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        kept = local_paths(columns, drop)
    assert len(kept) == 2 ** (columns - 1)
    assert all(left and set(left) <= set(all_) for left, all_ in zip(kept, joins(columns), strict=True))
    if drop == 0:
        assert kept == joins(columns)


def test_inputs_are_dropped_as_often_as_they_should() -> None:
    torch.manual_seed(0)
    last = [local_paths(4, 0.15)[-1] for _ in range(2000)]
    assert abs(sum(len(kept) for kept in last) / 8000 - 0.85) < 0.02


def layers_that_run(module: FractalNet) -> list[set[str]]:
    """The convolutions of each of 100 passes in training."""
    passes: list[set[str]] = []
    for path, part in module.named_modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(lambda *_, path=path: passes[-1].add(path))
    torch.manual_seed(0)
    with torch.no_grad():
        for _ in range(100):
            passes.append(set())
            module.train()(torch.randn(2, 3, 32, 32))
    return passes


def test_half_of_the_passes_in_training_take_one_column_through_the_whole_network() -> None:
    module: Any = build(columns=3, width=1).module
    alone = [
        {f"stages.{stage}.columns.{column}.{row}.conv" for stage in range(5) for row in range(2**column)}
        for column in range(3)
    ]
    passes = layers_that_run(module)
    times = [sum(ran == column for ran in passes) for column in alone]
    assert all(7 < number < 27 for number in times)  # 17 each, and hardly ever a local one that looks like it
    assert 35 < sum(times) < 70
    assert len({frozenset(ran) for ran in passes}) > 30  # local ones


def test_in_training_every_parameter_has_a_gradient() -> None:
    module: Any = build(width=2).module.train()
    for seed in range(6):
        torch.manual_seed(seed)
        module.zero_grad()
        module(torch.randn(2, 3, 32, 32)).sum().backward()
        assert all(parameter.grad is not None for parameter in module.parameters())


def test_a_frozen_fractal_is_whole() -> None:
    module: Any = randomised(build().module)
    x = torch.randn(2, 3, 32, 32)
    whole = module.stages[0](x)
    module.train()
    module.stages[0].eval()
    seen: list[Tensor] = []
    module.stages[0].register_forward_hook(lambda *a: seen.append(a[-1]))
    for _ in range(10):
        module(x)
    assert all(torch.equal(output, whole) for output in seen)


def test_a_column_alone_has_running_statistics_of_its_own() -> None:
    """The mean of several columns has another spread than one alone: mixed, they would suit neither."""
    block = Fractal(3, 8, 3, 0.15).train()
    before = {name: buffer.clone() for name, buffer in block.named_buffers()}
    block(torch.randn(4, 3, 8, 8), column=1)
    changed = {name for name, buffer in block.named_buffers() if not torch.equal(buffer, before[name])}
    kinds = ("running_mean", "running_var", "num_batches_tracked")
    assert changed == {f"columns.1.{row}.norm_alone.{kind}" for row in (0, 1) for kind in kinds}
    before = {name: buffer.clone() for name, buffer in block.named_buffers()}
    block(torch.randn(4, 3, 8, 8))
    changed = {name for name, buffer in block.named_buffers() if not torch.equal(buffer, before[name])}
    assert changed
    assert not any("alone" in name for name in changed)


def test_there_are_no_residuals() -> None:
    block = randomised(Fractal(3, 8, 4, 0.15))
    for layer in block.columns[-1]:  # the deepest column alone would let an identity through
        nn.init.zeros_(layer.norm.weight)
        nn.init.zeros_(layer.norm.bias)
    x = torch.randn(2, 3, 8, 8)
    assert not block(x, column=3).any()
    for layers in block.columns:
        for layer in layers:
            nn.init.zeros_(layer.norm.weight)
            nn.init.zeros_(layer.norm.bias)
    assert not block(x).any()


@pytest.mark.parametrize(
    ("chosen", "message"),
    [({"column": 5}, "backbone.column=5: give 1"), ({"column": 0}, "column=0"), ({"columns": 0}, "columns=0")],
)
def test_wrong_numbers_are_refused(chosen: dict[str, int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        build(**chosen)
