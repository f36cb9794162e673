"""LeNet-5 (LeCun et al. 1998): the convolutional network that read the amounts on bank cheques."""

from tlkit.backbones import Backbone, Recipe, Record, Reference, documented, from_network


@documented(
    Record(
        family="lenet",
        input_size=(1, 32, 32),
        params=60_000,
        macs=415_680,  # of them 90,000 with zeros, see PartialConvolution
        # The paper's rate is divided by the curvature of each weight, so it says nothing about that of plain SGD.
        recipe=Recipe(
            optimizer="sgd",
            lr=None,
            batch_size=1,
            momentum=None,
            weight_decay=0.0,
            schedule="global rate from 5e-4 to 1e-5 in 20 epochs, times the inverse curvature of each weight",
        ),
        reference=Reference(
            paper="Gradient-Based Learning Applied to Document Recognition",
            authors="LeCun, Bottou, Bengio and Haffner",
            year=1998,
            url="https://doi.org/10.1109/5.726791",
            params=60_000,
            note="section II-B; about 1 % error on MNIST, where the layers' own connections add to 340,068, not to the "
            "340,908 of the text",
        ),
    )
)
def lenet5(*, weights: str | None = None) -> Backbone:
    """LeNet-5, for grey digits of 32x32 pixels; codes of length 84 ("pool", which is F6). No weights are published.

    Light strokes on a dark ground, with a margin, as in MNIST; black and white are -0.1 and 1.175, as in the paper.
    Its ten outputs are minus the squared distances of F6 from pictures of the digits, so that the largest wins; these
    pictures are not learned, and drawn anew.

    Args:
        weights: a .safetensors file, or None for random ones.
    """
    from tlkit_plugins.networks.lenet import lenet5_1998

    from tlkit.data import Preprocess

    return from_network(
        lenet5_1998(),
        name="lenet5",
        weights=weights,
        preprocess=Preprocess(
            input_size=(1, 32, 32), interpolation="bilinear", mean=(0.1 / 1.275,), std=(1 / 1.275,), crop_pct=1.0
        ),
        taps={layer: f"{layer}_squashed" for layer in ("c1", "s2", "c3", "s4", "c5", "f6")},
    )
