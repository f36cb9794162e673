"""NASNet-A (Zoph et al. 2017): cells found by search, of two kinds: normal ones, and those that halve the map."""

from tlkit.backbones import Backbone, Recipe, Record, Reference, documented, from_network, from_timm

# The paper names RMSprop, and no rate that would hold for one machine.
RECIPE = Recipe(optimizer="rmsprop", lr=None, batch_size=None, momentum=None, weight_decay=None, schedule=None)


def _reference(params: float, macs: float, top1: float, top5: float, note: str) -> Reference:
    return Reference(
        paper="Learning Transferable Architectures for Scalable Image Recognition",
        authors="Zoph et al.",
        year=2017,
        url="https://arxiv.org/abs/1707.07012",
        params=params,
        macs=macs,
        top1=top1,
        top5=top5,
        note=note,
    )


def _taps(cells: int) -> dict[str, str]:
    names = ["cell_stem_0", "cell_stem_1"]
    for block in range(3):
        names += [f"reduction_cell_{block - 1}"] if block else []
        names += [f"cell_{number}" for number in range(block * cells, (block + 1) * cells)]
    return {name: name for name in names}


@documented(
    Record(
        family="nasnet",
        input_size=(3, 224, 224),
        params=5_289_978,
        macs=563_638_816,
        recipe=RECIPE,
        reference=_reference(5.3e6, 564e6, 74.0, 91.6, "4 @ 1056, table 3"),
    )
)
def nasnet_mobile(*, weights: str | None = None) -> Backbone:
    """NASNet-A (4 @ 1056), small enough for phones; no published weights; codes of length 1056.

    Args:
        weights: a .safetensors file or a folder with model.safetensors, or None for random ones.
    """
    from tlkit_plugins.networks.nasnet import NASNet

    from tlkit.data import Preprocess

    half = (0.5, 0.5, 0.5)
    return from_network(
        NASNet(cells=4, num_features=1056, stem=32),
        name="nasnet_mobile",
        weights=weights,
        preprocess=Preprocess((3, 224, 224), "bicubic", half, half, 0.875),
        taps=_taps(4),
    )


@documented(
    Record(
        family="nasnet",
        input_size=(3, 331, 331),
        params=88_753_150,
        macs=23_783_414_658,
        weights="timm/nasnetalarge.tf_in1k",
        license="apache-2.0",
        recipe=RECIPE,
        reference=_reference(88.9e6, 23.8e9, 82.7, 96.2, "6 @ 4032, table 2"),
    )
)
def nasnetalarge(*, weights: str | None = "pretrained") -> Backbone:
    """NASNet-A (6 @ 4032), for 331 pixels; codes of length 4032.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("nasnetalarge", weights=weights, taps=_taps(6))
