"""Network in Network (Lin, Chen and Yan 2014): perceptrons as filters, and no fully connected layer at the end."""

from tlkit_plugins.preprocessing import imagenet

from tlkit.backbones import Backbone, Recipe, Record, Reference, documented, from_network

RECIPE = Recipe(
    optimizer="sgd",
    lr=None,
    batch_size=128,
    momentum=None,
    weight_decay=None,
    schedule="divided by 10 when the training accuracy stops rising, twice",
)


def _reference(note: str) -> Reference:
    return Reference(
        paper="Network In Network",
        authors="Lin, Chen and Yan",
        year=2014,
        url="https://arxiv.org/abs/1312.4400",
        note=note,
    )


@documented(
    Record(
        family="nin",
        input_size=(3, 224, 224),
        params=7_595_176,
        macs=1_100_188_800,
        recipe=RECIPE,
        reference=_reference("not in the paper: the authors' network for ImageNet, known from Caffe's model zoo"),
    )
)
def nin(*, weights: str | None = None) -> Backbone:
    """Network in Network for ImageNet: four mlpconv layers; codes of length 1024. No weights in this form exist.

    Args:
        weights: a .safetensors file, or None for random ones.
    """
    from tlkit_plugins.networks.nin import nin_imagenet

    return from_network(
        nin_imagenet(),
        name="nin",
        weights=weights,
        preprocess=imagenet(224),
        taps=_taps("mlpconv1", "pool1", "mlpconv2", "pool2", "mlpconv3", "pool3"),
    )


@documented(
    Record(
        family="nin",
        input_size=(3, 32, 32),
        params=966_986,
        macs=222_486_528,
        recipe=RECIPE,
        reference=_reference("section 4, CIFAR-10: 10.41 % error, 8.81 % with shifts and flips"),
    )
)
def nin_cifar(*, weights: str | None = None) -> Backbone:
    """Network in Network for images of 32x32 pixels: three mlpconv layers; codes of length 192. No weights exist.

    Args:
        weights: a .safetensors file, or None for random ones.
    """
    from tlkit_plugins.networks.nin import nin_cifar_2014

    from tlkit.data import Preprocess

    return from_network(
        nin_cifar_2014(),
        name="nin_cifar",
        weights=weights,
        preprocess=Preprocess(
            input_size=(3, 32, 32),
            interpolation="bilinear",
            mean=(0.4914, 0.4822, 0.4465),  # of CIFAR-10
            std=(0.2470, 0.2435, 0.2616),
            crop_pct=1.0,
        ),
        taps=_taps("mlpconv1", "pool1", "mlpconv2", "pool2"),
    )


def _taps(*layers: str) -> dict[str, str]:
    return {layer: layer for layer in layers}
