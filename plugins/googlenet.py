"""GoogLeNet, or Inception v1 (Szegedy et al. 2014): nine modules of 1x1, 3x3 and 5x5 convolutions side by side.

torchvision's form has 3x3 convolutions where the paper has 5x5, a slip of the weights that it was ported from, and
BatchNorm. It has published weights, and what most call GoogLeNet is this one: `googlenet`. `googlenet_5x5` is the
network of the paper, without published weights.
"""

from dataclasses import replace

from tlkit_plugins.preprocessing import imagenet

from tlkit.backbones import Backbone, Recipe, Record, Reference, documented, from_network

RECIPE = Recipe(
    optimizer="sgd", lr=None, batch_size=None, momentum=0.9, weight_decay=None, schedule="minus 4 % every 8 epochs"
)
REFERENCE = Reference(
    paper="Going Deeper with Convolutions",
    authors="Szegedy et al.",
    year=2014,
    url="https://arxiv.org/abs/1409.4842",
    params=6.8e6,
    macs=1.5e9,
    top5=100 - 6.67,
    note="sums of the rows of table 1; top-5 of 7 networks, 144 crops, table 3",
)
MODULES = tuple(f"inception{name}" for name in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"))


@documented(
    Record(
        family="googlenet",
        input_size=(3, 224, 224),
        params=6_624_904,
        macs=1_498_376_192,
        weights="torchvision/googlenet",
        license="bsd-3-clause",
        recipe=RECIPE,
        reference=replace(
            REFERENCE, note=f"{REFERENCE.note}; with 5x5 convolutions, which torchvision's form here has not"
        ),
    )
)
def googlenet(*, weights: str | None = "pretrained") -> Backbone:
    """GoogLeNet as torchvision has it, with 3x3 for 5x5 convolutions, and with weights; codes of length 1024.

    The paper's own network is `googlenet_5x5`.

    Args:
        weights: "pretrained" (torchvision's), a .safetensors file or a folder with model.safetensors, or None for
            random ones.
    """
    from tlkit_plugins.networks.googlenet import TorchvisionGoogLeNet

    from tlkit.data import Preprocess

    half = (0.5, 0.5, 0.5)  # torchvision's `transform_input` makes this of ImageNet's mean and deviation
    return from_network(
        TorchvisionGoogLeNet(),
        name="googlenet",
        weights=weights,
        preprocess=Preprocess((3, 224, 224), "bilinear", half, half, 0.875),
        published="googlenet",
        taps={"conv1": "conv1", "conv2": "conv3", **{name: name for name in MODULES}},
    )


@documented(
    Record(
        family="googlenet",
        input_size=(3, 224, 224),
        params=6_998_552,
        macs=1_582_671_872,
        recipe=RECIPE,
        reference=REFERENCE,
    )
)
def googlenet_5x5(*, weights: str | None = None) -> Backbone:
    """GoogLeNet as its paper has it, with 5x5 convolutions; no published weights; codes of length 1024.

    Two auxiliary classifiers, on 4a and 4d, take part in its training. `googlenet` is torchvision's form, with 3x3 for
    5x5 convolutions, which has published weights.

    Args:
        weights: a .safetensors file or a folder with model.safetensors, or None for random ones.
    """
    from tlkit_plugins.networks.googlenet import GoogLeNet

    return from_network(
        GoogLeNet(),
        name="googlenet_5x5",
        weights=weights,
        preprocess=imagenet(),
        taps={"conv1": "conv1", "conv2": "conv2", **{name: name for name in MODULES}},
    )
