"""ReLUs that pass signals back by another rule, against captum where captum is right, and by hand where it is not."""

import copy
import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tlkit.visualize.rectified import Rectified, Rule


def _signal(
    function: Callable[[Tensor], Tensor], image: Tensor, rule: Rule, weight: Tensor
) -> tuple[Tensor, Rectified]:
    source = image.clone().requires_grad_()
    with Rectified(rule) as rectified:
        output = function(source)
        (signal,) = torch.autograd.grad(output, source, weight.expand_as(output))
    return signal, rectified


def _network(*, inplace: bool, relu: type[nn.ReLU] = nn.ReLU) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), relu(inplace), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1)),
        *(relu(inplace), nn.Flatten(), nn.Linear(8 * 16, 5)),
    ).eval()


@pytest.mark.parametrize("rule", ["guided", "deconvnet"])
@pytest.mark.parametrize("inplace", [False, True])
def test_as_captum_where_each_relu_is_a_module_with_an_input_of_its_own(rule: Rule, inplace: bool) -> None:
    from captum.attr import Deconvolution, GuidedBackprop

    network, image = _network(inplace=inplace), torch.randn(2, 3, 8, 8)
    expected_by = GuidedBackprop if rule == "guided" else Deconvolution
    plain = _network(inplace=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # captum says at each call that it sets hooks
        expected = expected_by(plain).attribute(image.clone().requires_grad_(), target=2)
    signal, rectified = _signal(network, image, rule, F.one_hot(torch.tensor(2), 5).float())
    torch.testing.assert_close(signal, expected)
    assert rectified.relus == 2
    assert rectified.pools == 1


@pytest.mark.parametrize("rule", ["guided", "deconvnet"])
@pytest.mark.parametrize(
    "relu",
    [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        F.relu,
        torch.relu,
        torch.relu_,
        Tensor.relu,
        Tensor.relu_,
        nn.ReLU6(inplace=True),
    ],
    ids=lambda relu: getattr(relu, "__name__", repr(relu)),
)
def test_every_relu_follows_the_rule(rule: Rule, relu: Callable[[Tensor], Tensor]) -> None:
    image = torch.tensor([-1.0, -1.0, 2.0, 2.0])
    weight = torch.tensor([3.0, -3.0, 3.0, -3.0])
    signal, rectified = _signal(lambda x: relu(x * 1), image, rule, weight)
    expected = [3.0, 0.0, 3.0, 0.0] if rule == "deconvnet" else [0.0, 0.0, 3.0, 0.0]
    assert signal.tolist() == expected
    assert rectified.relus == 1


def test_a_relu_that_is_clipped_from_above_passes_nothing_back_there() -> None:
    image, weight = torch.tensor([7.0, 5.0]), torch.ones(2)
    assert _signal(nn.ReLU6(), image, "guided", weight)[0].tolist() == [0.0, 1.0]
    assert _signal(nn.ReLU6(), image, "deconvnet", weight)[0].tolist() == [1.0, 1.0]


@pytest.mark.parametrize("rule", ["guided", "deconvnet"])
def test_a_shortcut_past_a_relu_keeps_its_own_signal(rule: Rule) -> None:
    """captum replaces the sum of both by what the ReLU's own rule gives."""
    image, weight = torch.tensor([1.0, 1.0]), torch.tensor([2.0, -2.0])
    relu = nn.ReLU()
    signal, _ = _signal(lambda x: (y := x * 1) + relu(y), image, rule, weight)
    assert signal.tolist() == [4.0, -2.0]


def test_a_module_that_is_used_twice() -> None:
    relu = nn.ReLU(inplace=True)
    signal, rectified = _signal(lambda x: relu(-relu(x * 1)), torch.tensor([1.0]), "deconvnet", torch.tensor([1.0]))
    assert signal.tolist() == [0.0]  # 1, then -1 by the sign, which the first ReLU does not pass back
    assert rectified.relus == 2


def test_in_place_work_is_in_place() -> None:
    with Rectified("deconvnet"):
        x = torch.tensor([-1.0, 2.0], requires_grad=True) * 1
        F.relu(x, inplace=True)
    assert x.tolist() == [0.0, 2.0]


@pytest.mark.parametrize("rule", ["guided", "deconvnet"])
def test_values_are_those_of_the_network_to_the_last_bit(rule: Rule) -> None:
    network, image = _network(inplace=True), torch.randn(2, 3, 8, 8)
    network.insert(1, nn.LocalResponseNorm(5))
    plain = copy.deepcopy(network)
    with Rectified(rule):
        found = network(image.clone().requires_grad_())
    assert torch.equal(found, plain(image))


def test_local_response_normalisation_passes_everything_back_in_a_deconvnet() -> None:
    image, weight = torch.rand(1, 8, 2, 2), torch.rand(1, 8, 2, 2)
    norm = nn.LocalResponseNorm(5, alpha=1.0)
    torch.testing.assert_close(_signal(norm, image, "deconvnet", weight)[0], weight)
    assert (_signal(norm, image, "guided", weight)[0] - weight).abs().max() > 0.01


def test_other_activations_keep_their_gradient_and_are_told() -> None:
    signal, rectified = _signal(lambda x: F.silu(x) + F.gelu(x), torch.tensor([1.0]), "guided", torch.tensor([-1.0]))
    assert signal.item() == pytest.approx(-0.9277 - 1.0833, abs=1e-3)
    assert rectified.relus == 0
    assert rectified.others == ["SiLU", "GELU", "sums"]


def test_nothing_is_left_behind() -> None:
    image = torch.tensor([-1.0], requires_grad=True)
    with Rectified("deconvnet"):
        pass
    (gradient,) = torch.autograd.grad(F.relu(image), image, torch.tensor([1.0]))
    assert gradient.item() == 0.0
