"""Pre-activation ResNet (He et al. 2016): BatchNorm and ReLU before each convolution, and nothing on the identity path.

These are timm's `resnetv2_*` with BatchNorm; bottlenecks have the stride on the 3x3 convolution, as in timm's ResNets.
"""

from tlkit_plugins.resnet import RECIPE

from tlkit.backbones import Backbone, Record, Reference, documented, from_timm


def _record(params: int, macs: int, weights: str | None = None, errors: tuple[float, float] | None = None) -> Record:
    """State what timm has; `errors` are top-1 and top-5 errors in percent of the paper's table 5."""
    return Record(
        family="preact_resnet",
        input_size=(3, 224, 224),
        params=params,
        macs=macs,
        weights=weights,
        license="apache-2.0" if weights else None,
        recipe=RECIPE,
        reference=Reference(
            paper="Identity Mappings in Deep Residual Networks",
            authors="He, Zhang, Ren and Sun",
            year=2016,
            url="https://arxiv.org/abs/1603.05027",
            top1=100 - errors[0] if errors else None,
            top5=100 - errors[1] if errors else None,
            note="table 5, one crop of 320 pixels" if errors else None,
        ),
    )


@documented(_record(11_687_720, 1_814_073_344, "timm/resnetv2_18.ra4_e3600_r224_in1k"))
def preact_resnet18(*, weights: str | None = "pretrained") -> Backbone:
    """Pre-activation ResNet-18: four stages of two basic blocks; codes of length 512.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("resnetv2_18", weights=weights, name="preact_resnet18")


@documented(_record(21_795_880, 3_663_761_408, "timm/resnetv2_34.ra4_e3600_r224_in1k"))
def preact_resnet34(*, weights: str | None = "pretrained") -> Backbone:
    """Pre-activation ResNet-34: stages of 3, 4, 6 and 3 basic blocks; codes of length 512.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("resnetv2_34", weights=weights, name="preact_resnet34")


@documented(_record(25_549_352, 4_089_184_256, "timm/resnetv2_50.a1h_in1k"))
def preact_resnet50(*, weights: str | None = "pretrained") -> Backbone:
    """Pre-activation ResNet-50: stages of 3, 4, 6 and 3 bottleneck blocks; codes of length 2048.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("resnetv2_50", weights=weights, name="preact_resnet50")


@documented(_record(44_541_480, 7_801_405_440, "timm/resnetv2_101.a1h_in1k"))
def preact_resnet101(*, weights: str | None = "pretrained") -> Backbone:
    """Pre-activation ResNet-101: stages of 3, 4, 23 and 3 bottleneck blocks; codes of length 2048.

    Args:
        weights: "pretrained", a folder with config.json and model.safetensors, a .safetensors file, or None for
            random ones.
    """
    return from_timm("resnetv2_101", weights=weights, name="preact_resnet101")


@documented(_record(60_185_128, 11_513_626_624, errors=(21.1, 5.5)))
def preact_resnet152(*, weights: str | None = None) -> Backbone:
    """Pre-activation ResNet-152: stages of 3, 8, 36 and 3 bottlenecks; codes of length 2048; no published weights.

    Args:
        weights: a folder with config.json and model.safetensors, a .safetensors file, or None for random ones.
    """
    return from_timm("resnetv2_152", weights=weights, name="preact_resnet152")


@documented(_record(64_666_152, 15_007_481_856, errors=(20.7, 5.3)))
def preact_resnet200(*, weights: str | None = None) -> Backbone:
    """Pre-activation ResNet-200: stages of 3, 24, 36 and 3 bottlenecks; codes of length 2048; no published weights.

    Args:
        weights: a .safetensors file, or None for random ones.
    """
    return from_timm("resnetv2_152", weights=weights, name="preact_resnet200", layers=[3, 24, 36, 3])
