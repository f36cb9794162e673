"""A network in shards: each rank holds its part of every parameter, gradient and optimizer state (torch's FSDP2).

A stage is gathered for its own pass, forward and backward, and let go of behind it. So every rank has to make every
pass, and whatever is whole is gathered, tensor by tensor, on the first rank.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor, nn

from tlkit import ranks
from tlkit.backbones import activations
from tlkit.backbones.taps import evaluating
from tlkit.errors import TlkitError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

    from tlkit.training.network import Network


def shard(network: Network, mesh: DeviceMesh) -> None:
    """Leave the first rank's network with this rank's part of the parameters, on the device of the mesh.

    Buffers stay whole.

    Raises:
        TlkitError: a parameter is a single number without a dimension.
    """
    from torch import distributed
    from torch.distributed.fsdp import fully_shard

    scalars = [name for name, parameter in network.named_parameters() if parameter.ndim == 0]
    if scalars:
        raise TlkitError(
            f"trainer.strategy=fsdp: {scalars[0]} is a single number, which has no parts. Leave trainer.strategy out."
        )
    network.to(memory_format=torch.contiguous_format)  # parts are rows that lie one after the other
    for tensor in (*network.parameters(), *network.buffers()):
        distributed.broadcast(tensor.detach(), 0)  # as DDP does: only the first rank has the probe
    for unit in units(network):
        fully_shard(unit, mesh=mesh, reshard_after_forward=True)
    fully_shard(network, mesh=mesh, reshard_after_forward=True)


def units(network: Network) -> list[list[nn.Module]]:
    """Return for each stage the modules that are gathered together: the outermost ones that hold nothing else.

    Each runs once in a pass, as a pass over a black image tells. Parameters of a stage that are in no such module are
    gathered for the whole pass, with the head.
    """
    runs = _runs(network)
    parameters = dict(network.module.named_parameters())
    found = []
    for stage in network.stages:
        own = {id(parameters[name]) for name in stage.parameters}
        unit: list[nn.Module] = []
        inside: set[nn.Module] = set()
        for part in network.module.modules():
            held = {id(parameter) for parameter in part.parameters()}
            if held and held <= own and runs[part] == 1 and part not in inside:
                unit.append(part)
                inside.update(part.modules())
        if unit:
            found.append(unit)
    return found


def _runs(network: Network) -> Counter[nn.Module]:
    runs: Counter[nn.Module] = Counter()
    weight = next(network.parameters())
    image = torch.zeros(1, *network.input_size, device=weight.device, dtype=weight.dtype)
    with ExitStack() as stack, torch.no_grad(), evaluating(network.module):
        for part in network.module.modules():
            stack.callback(part.register_forward_pre_hook(lambda part, _: runs.update([part])).remove)
        activations(network.module, image, [network.tap])
    return runs


def whole(tensor: Tensor) -> Tensor:
    """Return a copy on the CPU, on the first rank; every rank has to call it, and the others keep nothing of shards."""
    if not _in_shards(tensor):
        return tensor.cpu().clone()
    sharded: Any = tensor
    gathered: Tensor = sharded.full_tensor()
    return gathered.cpu() if ranks.world()[0] == 0 else gathered.new_empty(0, device="cpu")


def gathered(state: Any) -> Any:  # noqa: ANN401
    """Return a state with what is in shards made `whole`; every rank has to call it."""
    return apply_to_collection(state, Tensor, lambda tensor: whole(tensor) if _in_shards(tensor) else tensor)


def scattered(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return an optimizer's whole state as this rank's part of it; without shards it is the state itself."""
    parameters: list[Any] = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def own(number: int, value: Any) -> Any:  # noqa: ANN401
        parameter = parameters[number]
        if not (_in_shards(parameter) and isinstance(value, Tensor) and value.shape == parameter.shape):
            return value
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(value, parameter.device_mesh, parameter.placements, src_data_rank=None)

    parts = {
        number: {name: own(number, value) for name, value in values.items()}
        for number, values in state["state"].items()
    }
    return {**state, "state": parts}


def _in_shards(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")  # a DTensor, whose module some builds of torch do not have
