"""FractalNet (Larsson et al. 2017): depth without residuals, by a rule that is applied to itself."""

from tlkit_plugins.preprocessing import cifar

from tlkit.backbones import Backbone, Recipe, Record, Reference, documented, from_network
from tlkit.errors import UsageError


@documented(
    Record(
        family="fractalnet",
        input_size=(3, 32, 32),
        params=76_106_634,
        macs=2_036_077_568,
        recipe=Recipe(
            optimizer="sgd",
            lr=0.02,
            batch_size=100,
            momentum=0.9,
            weight_decay=None,
            schedule="divided by 10 whenever half of the epochs that are left have passed",
        ),
        reference=Reference(
            paper="FractalNet: Ultra-Deep Neural Networks without Residuals",
            authors="Larsson, Maire and Shakhnarovich",
            year=2016,
            url="https://arxiv.org/abs/1605.07648",
            note="error on CIFAR-10 4.60 %, with flips and translations, drop-path and dropout, 3 columns, table 1",
        ),
    )
)
def fractalnet(*, columns: int = 4, width: int = 64, column: int | None = None, weights: str | None = None) -> Backbone:
    """FractalNet for CIFAR, 32 x 32 pixels: five fractals, 40 layers on the longest way; no published weights.

    In training with drop-path: half of the mini-batches take one column through the whole network, the others lose
    15 % of what joins, but never all of it.

    Args:
        columns: of each fractal; the deepest has 2**(columns - 1) convolutions. The paper has 1 to 6.
        width: maps of the first fractal, 64, or 16 in the paper's table of depths; the others have 2, 4, 8 and 8 times
            as many. Codes have length 8 * width. The record, of parameters and operations, is of 4 columns, 64 maps.
        column: the only one to run when it does not train, 1 (the shallowest) to `columns`; None for the whole network.
        weights: a .safetensors file, or a folder that holds model.safetensors, or None for random ones.
    """
    from tlkit_plugins.networks.fractalnet import FractalNet

    if columns < 1 or width < 1:
        raise UsageError(f"backbone.columns={columns}, backbone.width={width}: give 1 or more of both.")
    if column is not None and not 1 <= column <= columns:
        raise UsageError(f"backbone.column={column}: give 1 (the shallowest) to {columns}, or null for all.")
    return from_network(
        FractalNet([width * times for times in (1, 2, 4, 8, 8)], columns, None if column is None else column - 1),
        name="fractalnet",
        weights=weights,
        preprocess=cifar(),
        spec={"columns": columns, "width": width, "column": column},
    )
