"""AlexNet (Krizhevsky, Sutskever and Hinton 2012): the network that won ILSVRC 2012, and two simpler forms of it.

As published its halves were on two GPUs (`alexnet_2gpu`); lecture notes draw it whole (`alexnet_1gpu`); the one with
published weights (`alexnet`) is that of a later paper, with fewer maps and without response normalisation.
"""

from tlkit_plugins.preprocessing import imagenet

from tlkit.backbones import Backbone, Recipe, Record, Reference, documented, from_network

RECIPE = Recipe(
    optimizer="sgd", lr=1e-2, batch_size=128, momentum=0.9, weight_decay=5e-4, schedule="divided by 10 on a plateau"
)
_PAPER = "ImageNet Classification with Deep Convolutional Neural Networks"
_URL = "https://proceedings.neurips.cc/paper/2012/hash/c399862d3b9d6b76c8436e924a68c45b-Abstract.html"
_TAPS = {
    **{f"conv{layer}": f"relu{layer}" for layer in range(1, 6)},
    **{f"pool{layer}": f"pool{layer}" for layer in (1, 2, 5)},
    **{"fc6": "relu6", "fc7": "relu7"},
}


@documented(
    Record(
        family="alexnet",
        input_size=(3, 224, 224),
        params=61_100_840,
        macs=714_188_480,
        weights="torchvision/alexnet",
        license="bsd-3-clause",
        recipe=RECIPE,
        reference=Reference(
            paper="One weird trick for parallelizing convolutional neural networks",
            authors="Krizhevsky",
            year=2014,
            url="https://arxiv.org/abs/1404.5997",
            note="the recipe is that of Krizhevsky et al. 2012",
        ),
    )
)
def alexnet(*, weights: str | None = "pretrained") -> Backbone:
    """AlexNet as torchvision has it, with its weights; the codes ("pool") are fc7 after ReLU, of length 4096.

    Args:
        weights: "pretrained" (torchvision's), a .safetensors file with torchvision's names, or None for random ones.
    """
    from tlkit_plugins.networks.alexnet import TorchvisionAlexNet

    return from_network(
        TorchvisionAlexNet(),
        name="alexnet",
        weights=weights,
        published="alexnet",
        preprocess=imagenet(224),
        taps={
            "conv1": "features.1",
            "pool1": "features.2",
            "conv2": "features.4",
            "pool2": "features.5",
            "conv3": "features.7",
            "conv4": "features.9",
            "conv5": "features.11",
            "pool5": "features.12",
            "fc6": "classifier.2",
            "fc7": "classifier.5",
        },
    )


@documented(
    Record(
        family="alexnet",
        input_size=(3, 227, 227),
        params=60_965_224,
        macs=724_406_816,
        recipe=RECIPE,
        reference=Reference(
            paper=_PAPER,
            authors="Krizhevsky, Sutskever and Hinton",
            year=2012,
            url=_URL,
            params=60e6,
            top1=100 - 40.7,
            top5=100 - 18.2,
            note="table 2, one network, 10 crops; 15.3 % top-5 error in ILSVRC 2012 is that of seven",
        ),
    )
)
def alexnet_2gpu(*, input_size: int = 227, weights: str | None = None) -> Backbone:
    """AlexNet as published, in two halves that meet in conv3 and fc6 only; codes of length 4096. No weights exist.

    Args:
        input_size: sides of the image, on which the size of fc6 depends; at least 67.
        weights: a .safetensors file, or None for random ones.
    """
    return _as_published("alexnet_2gpu", input_size, weights, halves=2)


@documented(
    Record(
        family="alexnet",
        input_size=(3, 227, 227),
        params=62_378_344,
        macs=1_135_256_096,
        recipe=RECIPE,
        reference=Reference(
            paper=_PAPER,
            authors="Krizhevsky, Sutskever and Hinton",
            year=2012,
            url=_URL,
            params=62_367_776,
            note="weights without biases, as lecture notes count them; its layers put out 2.08 M numbers, not the "
            "2.24 M of these notes",
        ),
    )
)
def alexnet_1gpu(*, input_size: int = 227, weights: str | None = None) -> Backbone:
    """AlexNet as lecture notes draw it, in one stream; codes of length 4096. No weights exist.

    Args:
        input_size: sides of the image, on which the size of fc6 depends; at least 67.
        weights: a .safetensors file, or None for random ones.
    """
    return _as_published("alexnet_1gpu", input_size, weights, halves=1)


def _as_published(name: str, input_size: int, weights: str | None, halves: int) -> Backbone:
    from tlkit_plugins.networks.alexnet import alexnet_2012

    return from_network(
        alexnet_2012(name, input_size, halves),
        name=name,
        weights=weights,
        preprocess=imagenet(input_size),
        spec={"input_size": input_size},
        taps=_TAPS,
    )
