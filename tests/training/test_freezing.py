"""The frozen part stands still, bit by bit, in real networks of many families; everything else moves."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tlkit.backbones import Backbone, Recipe, classifier_parameters, from_module
from tlkit.data import Preprocess
from tlkit.training import Policy, Settings
from tlkit.training.freezing import first_epoch, first_trained, freeze
from tlkit.training.network import Network
from tlkit.training.rates import NEW, parameter_groups, rates

# Name in timm, side of the input, further arguments. timm has no AlexNet.
QUICK: list[tuple[str, int, dict[str, Any]]] = [
    ("vgg11", 32, {"drop_rate": 0.3, "mlp_ratio": 0.02}),
    ("vgg11_bn", 32, {"drop_rate": 0.3, "mlp_ratio": 0.02}),
    ("resnet10t", 32, {"drop_path_rate": 0.3, "drop_rate": 0.3}),
    ("densenet121", 32, {"drop_rate": 0.3}),
    ("mobilenetv2_035", 32, {"drop_path_rate": 0.3, "drop_rate": 0.3}),
    ("convnext_atto", 32, {"drop_path_rate": 0.3}),
    ("test_vit", 32, {"drop_path_rate": 0.3, "drop_rate": 0.3, "pos_drop_rate": 0.3, "img_size": 32}),
    ("inception_v3", 75, {"drop_rate": 0.3}),
]
SLOW: list[tuple[str, int, dict[str, Any]]] = [
    ("resnet50", 64, {"drop_path_rate": 0.3}),
    ("vit_tiny_patch16_224", 224, {"drop_path_rate": 0.3, "drop_rate": 0.3, "pos_drop_rate": 0.3}),
    ("swin_tiny_patch4_window7_224", 224, {"drop_path_rate": 0.3, "drop_rate": 0.3}),
    ("efficientnet_b0", 64, {"drop_path_rate": 0.3}),
    ("seresnext50_32x4d", 64, {"drop_rate": 0.3}),
]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
RECIPE = Recipe(optimizer="sgd", lr=0.1, batch_size=256, momentum=0.9, weight_decay=1e-4, schedule=None)


def build(name: str, side: int, arguments: dict[str, Any]) -> Backbone:
    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=7, **arguments)
    return from_module(
        module,
        name=name,
        preprocess=Preprocess((3, side, side), "bilinear", (0.5,) * 3, (0.5,) * 3, 1.0),
        weights=None,
        recipe=RECIPE,
        spec={"name": "timm", "model": name, "weights": None},
    )


def steps(network: Network, groups: list[dict[str, Any]], side: int) -> None:
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    for _ in range(3):
        network.module.train()  # as careless code does
        images, labels = torch.randn(6, 3, side, side, device=DEVICE), torch.tensor([0, 1, 2, 0, 1, 2], device=DEVICE)
        loss = nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


def check_a_family(name: str, side: int, arguments: dict[str, Any]) -> None:
    backbone = build(name, side, arguments)
    first = len(backbone.stages) // 2
    network = Network(backbone, 3).to(DEVICE)
    network.freeze(first)
    network.train()
    before = {key: tensor.clone() for key, tensor in network.module.state_dict().items()}
    chosen = rates(backbone, Settings(layer_decay=0.5), 32)
    groups = parameter_groups(network, chosen)
    steps(network, groups, side)
    frozen = {key for stage in backbone.stages[:first] for key in stage.parameters}
    trained = {key for stage in backbone.stages[first:] for key in stage.parameters}
    after = network.module.state_dict()
    still = {key for key, tensor in after.items() if torch.equal(tensor, before[key])}
    assert frozen <= still
    assert not trained & still
    for path, part in network.module.named_modules():
        own = [f"{path}.{key}".removeprefix(".") for key, _ in part.named_parameters(recurse=False)]
        statistics = [f"{path}.{key}".removeprefix(".") for key, _ in part.named_buffers(recurse=False)]
        if isinstance(part, _BatchNorm):
            assert ({*statistics} <= still) == (own[0] in frozen), path
            assert part.training == (own[0] in trained), path
        if path and own and own[0] in frozen:
            assert not part.training, path
    assert not differing(network, frozen, side)
    # The rates are those that were promised.
    last = 0.1 / 10 * 32 / 256
    names = [stage.name for stage in backbone.stages]
    promised = {stage: last * 0.5 ** (len(names) - 1 - i) for i, stage in enumerate(names)} | {NEW: 10 * last}
    assert [group["name"] for group in groups] == [*names, NEW]
    for group in groups:
        assert group["lr"] == pytest.approx(promised[group["name"]], rel=1e-12)
        assert group["weight_decay"] == 1e-4
    members = {id(p) for group in groups for p in group["params"]}
    old = {f"module.{key}" for key in classifier_parameters(network.module)}
    assert members == {id(p) for key, p in network.named_parameters() if key not in old}


def differing(network: Network, frozen: set[str], side: int) -> list[str]:
    """Pass one batch twice in train mode; return the frozen modules whose output was not the same: chance was in it."""
    seen: list[tuple[str, Tensor]] = []
    handles = []
    for path, part in network.module.named_modules():
        names = [f"{path}.{key}".removeprefix(".") for key, _ in part.named_parameters()]
        if names and {*names} <= frozen:

            def hook(_: nn.Module, _inputs: object, output: Tensor, path: str = path) -> None:
                seen.append((path, output.detach().clone()))

            handles.append(part.register_forward_hook(hook))
    batch = torch.randn(6, 3, side, side, device=DEVICE)
    network.train()
    for seed in (1, 2):
        torch.manual_seed(seed)
        network(batch)
    for handle in handles:
        handle.remove()
    half = len(seen) // 2
    assert half
    return [path for (path, one), (_, two) in zip(seen[:half], seen[half:], strict=True) if not torch.equal(one, two)]


@pytest.mark.parametrize(("name", "side", "arguments"), QUICK, ids=[row[0] for row in QUICK])
def test_the_frozen_part_stands_still_and_the_rest_moves(name: str, side: int, arguments: dict[str, Any]) -> None:
    check_a_family(name, side, arguments)


@pytest.mark.full
@pytest.mark.parametrize(("name", "side", "arguments"), SLOW, ids=[row[0] for row in SLOW])
def test_in_larger_networks_too(name: str, side: int, arguments: dict[str, Any]) -> None:
    check_a_family(name, side, arguments)


def test_dropout_behind_a_frozen_embedding_is_off_and_the_one_before_the_head_is_on() -> None:
    backbone = build("test_vit", 32, {"img_size": 32, "pos_drop_rate": 0.5, "drop_rate": 0.5, "drop_path_rate": 0.5})
    network = Network(backbone, 3).train()
    module: Any = network.module
    assert module.pos_drop.training  # everything is trained
    network.freeze(2)
    assert [module.pos_drop.training, module.head_drop.training] == [False, True]
    assert [block.drop_path1.training for block in module.blocks] == [False, True, True, True, True, True]
    network.freeze(len(backbone.stages))
    assert not any(part.training for part in module.modules() if isinstance(part, nn.Dropout))
    network.eval()
    assert not any(part.training for part in network.modules())
    network.freeze(0)
    assert not any(part.training for part in network.modules())


def test_a_frozen_block_behind_a_trained_one_stands_still_as_well() -> None:
    backbone = build("resnet10t", 32, {})
    reordered = tuple(reversed(backbone.stages))  # layer4 ... stem: the first of them are at the end of the network
    module = backbone.module.train()
    still = {id(part) for part in freeze(module, reordered, 2, (3, 32, 32))}
    layer4, layer1 = module.get_submodule("layer4"), module.get_submodule("layer1")
    assert all(id(part) in still for part in layer4.modules())
    assert not any(id(part) in still for part in layer1.modules() if isinstance(part, _BatchNorm))


def test_kept_statistics_stay_though_the_layers_learn() -> None:
    backbone = build("resnet10t", 32, {})
    network = Network(backbone, 3, keep_statistics=True).to(DEVICE).train()
    before = {key: tensor.clone() for key, tensor in network.module.state_dict().items()}
    steps(network, parameter_groups(network, rates(backbone, Settings(), 32)), 32)
    after = network.module.state_dict()
    moved = {key for key in after if not torch.equal(after[key], before[key])}
    assert not any("running" in key or "num_batches" in key for key in moved)
    assert "layer1.0.bn1.weight" in moved


def test_the_schedule_of_unfreezing_is_a_pure_function() -> None:
    for policy in (Policy(), Policy(2), Policy(1, every=1), Policy(0, every=3)):
        for stages in (3, 5):
            for epoch in range(20):
                first = first_trained(policy, stages, epoch)
                since = [first_epoch(policy, stages, stage) for stage in range(stages)]
                assert [stage >= first for stage in range(stages)] == [s is not None and s <= epoch for s in since]
