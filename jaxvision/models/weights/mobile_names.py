"""Names of timm and torchvision for MobileNet v1 to v3, EfficientNet and ShuffleNet v2."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from jaxvision.models.inverted_residual import Block, round_channels
from jaxvision.models.mobilenet import V2_STAGES, V3_STAGES
from jaxvision.models.weights import misfits
from jaxvision.models.weights.table import Rules, Table
from jaxvision.models.weights.torch_names import torch_table

# In timm the norms of a block are numbered, and the names of a block without a first 1x1 convolution are others.
TIMM_STEM: Rules = ((r"^stem_conv/", "conv_stem/"), (r"^stem_norm/", "bn1/"))
TIMM_BLOCK: Rules = (
    (r"/se/reduce/", "/se/conv_reduce/"),
    (r"/se/expand/", "/se/conv_expand/"),
    (r"/expand/conv/", "/conv_pw/"),
    (r"/expand/norm/", "/bn1/"),
    (r"/depthwise/conv/", "/conv_dw/"),
    (r"/depthwise/norm/", "/bn2/"),
    (r"/project/conv/", "/conv_pwl/"),
    (r"/project/norm/", "/bn3/"),
    (r"^stage(\d+)/block(\d+)/", "blocks/{1-1}/{2-1}/"),
    (r"^head/", "classifier/"),
)
TIMM_LAST: Rules = ((r"^stage\d+/conv/", "conv_head/"), (r"^stage\d+/norm/", "bn2/"))
TIMM_V3_LAST: Rules = (
    (r"^stage(\d+)/conv/", "blocks/{1-1}/0/conv/"),
    (r"^stage(\d+)/norm/", "blocks/{1-1}/0/bn1/"),
    (r"^pre_logits/", "conv_head/"),
)


def separable(stage: str) -> Rules:
    """Makes timm's rules of blocks without a first 1x1 convolution.

    Args:
      stage: Pattern of the numbers of their stages.
    """
    return (
        (rf"^(stage{stage}/block\d+)/depthwise/conv/", "{1}/conv_dw/"),
        (rf"^(stage{stage}/block\d+)/depthwise/norm/", "{1}/bn1/"),
        (rf"^(stage{stage}/block\d+)/project/conv/", "{1}/conv_pw/"),
        (rf"^(stage{stage}/block\d+)/project/norm/", "{1}/bn2/"),
    )


WIDTHS = (0.25, 0.35, 0.5, 0.75, 1.25, 1.4)  # factors of the channels in timm, apart from 1


def width_by(name: str, channels: int) -> tuple[str, Callable[[dict[str, np.ndarray]], dict[str, Any]]]:
    """Makes a row of `Table.options`: the width of a MobileNet, and the units of v3's hidden layer.

    Args:
      name: Name in timm of the last convolution in the last block.
      channels: Number of its output channels at a width of 1.
    """

    def options(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
        found = [width for width in WIDTHS if len(arrays[name]) == round_channels(width * channels)]
        # timm does not scale the hidden layer, so its units do not follow from the width.
        hidden = {"hidden": len(arrays["conv_head.weight"])} if "conv_head.bias" in arrays else {}
        return {"width": found[0], **hidden} if found else {}

    return f"^{re.escape(name)}$", options


def rest(activation: str, *reasons: tuple[str, str], **fields: Any) -> dict[str, Any]:
    """Returns what the tables of timm have in common.

    Args:
      activation: Function outside the blocks of every network.
      *reasons: Pairs of `Table.reasons`.
      **fields: Further fields of the `Table`.
    """
    return {
        "layouts": ((r"/se/\w+/kernel$|^params/pre_logits/kernel$", "torch_1x1"), (".", "torch")),
        "lacks": (misfits.PROJECTION,),
        "computes": {"activation": activation, "norm_epsilon": 1e-5, "padding": "both sides", "antialias": "none"},
        "assumed": ("norm_epsilon", "padding", "antialias"),
        "architectures": (
            (r"^tf_", {"norm_epsilon": 1e-3, "padding": "SAME"}),  # weights of the authors
            (r"^efficientnet_blur", {"antialias": "blur"}),
        ),
        "reasons": (*reasons, *misfits.MOBILE_REASONS),
        **fields,
    }


def layers_of(block: Block) -> list[str]:
    """Lists our names of the layers of a block, in their order."""
    expand = ["expand"] if block.expansion != 1 else []
    return [*expand, "depthwise", *(["se"] if block.squeeze else []), "project"]


def numbered(stages: Iterable[tuple[Block, ...]]) -> Iterator[tuple[int, str, Block]]:
    """Yields the blocks of all stages with torchvision's number, from 1 on, and our path."""
    places = [(f"stage{s}/block{b}", block) for s, stage in enumerate(stages, 1) for b, block in enumerate(stage, 1)]
    for number, (path, block) in enumerate(places, start=1):
        yield number, path, block


FEATURES: Rules = ((r"^stem_conv/", "features/0/0/"), (r"^stem_norm/", "features/0/1/"))
PARTS: Rules = ((r"/reduce/", "/fc1/"), (r"/expand/", "/fc2/"), (r"/conv/", "/0/"), (r"/norm/", "/1/"))
SE_1X1: Rules = ((r"/se/\w+/kernel$", "torch_1x1"), (".", "torch"))


def torchvision_table(stages: tuple[tuple[Block, ...], ...], *rules: tuple[str, str], **fields: Any) -> Table:
    """Makes the table of a network whose blocks torchvision numbers through all stages.

    Args:
      stages: Blocks of each stage.
      *rules: Renames of the blocks' layers and of the head.
      **fields: Further fields of the `Table`.
    """
    blocks = list(numbered(stages))
    places = "|".join(path for _, path, _ in blocks)
    last = len(stages) + 1
    return torch_table(
        *FEATURES,
        (rf"^stage{last}/conv/", f"features/{len(blocks) + 1}/0/"),
        (rf"^stage{last}/norm/", f"features/{len(blocks) + 1}/1/"),
        *rules,
        when=rf"^params/stage{last}/conv/",
        lacks=(misfits.PROJECTION, (rf"^\w+/(?!(?:{places})/)stage\d+/block\d+/", "more blocks than the paper's")),
        **fields,
    )


def v2_rules() -> Iterator[tuple[str, str]]:
    """Yields torchvision's rules of MobileNet v2, where the last convolution of a block is numbered beside its norm."""
    for number, path, block in numbered(V2_STAGES):
        *units, project = layers_of(block)
        for i, layer in enumerate(units):
            yield f"^{path}/{layer}/conv/", f"features/{number}/conv/{i}/0/"
            yield f"^{path}/{layer}/norm/", f"features/{number}/conv/{i}/1/"
        yield f"^{path}/{project}/conv/", f"features/{number}/conv/{len(units)}/"
        yield f"^{path}/{project}/norm/", f"features/{number}/conv/{len(units) + 1}/"


def v3_rules(variant: str) -> Iterator[tuple[str, str]]:
    """Yields torchvision's rules of the blocks of MobileNet v3.

    Args:
      variant: Name of the size, "large" or "small".
    """
    for number, path, block in numbered(V3_STAGES[variant]):
        for i, layer in enumerate(layers_of(block)):
            yield f"^{path}/{layer}/", f"features/{number}/block/{i}/"


LAYERS = tuple(enumerate(("expand", "depthwise", "se", "project")))  # the blocks of the first stage expand nothing
EFFICIENTNET: Rules = (
    *FEATURES,
    *[(rf"^stage1/block(\d+)/{layer}/", f"features/1/{{1-1}}/block/{i - 1}/") for i, layer in LAYERS if i],
    *[(rf"^stage(\d+)/block(\d+)/{layer}/", f"features/{{1}}/{{2-1}}/block/{i}/") for i, layer in LAYERS],
    (r"^stage(\d+)/(conv|norm)/", "features/{1}/{2}/"),
    (r"^head/", "classifier/1/"),
    *PARTS,
)


def torchvision_epsilon(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns the epsilon of torchvision's EfficientNet, 1e-3 from B5 on, whose last convolution has 2,048 channels.

    Args:
      arrays: Arrays of the file by name.
    """
    last = arrays.get("features.8.0.weight")
    return {} if last is None else {"norm_epsilon": 1e-3 if len(last) >= 2048 else 1e-5}


UNITS = {"expand": 0, "depthwise": 3, "project": 5}  # numbers in torchvision, among convolutions, norms and ReLUs
SHUFFLENET_V2: Rules = (
    (r"^stem_conv/", "conv1/0/"),
    (r"^stem_norm/", "conv1/1/"),
    (r"^stage\d+/conv/", "conv5/0/"),
    (r"^stage\d+/norm/", "conv5/1/"),
    (r"^stage(\d+)/block(\d+)/", "stage{1+1}/{2-1}/"),
    (r"/shortcut_depthwise/conv/", "/branch1/0/"),
    (r"/shortcut_depthwise/norm/", "/branch1/1/"),
    (r"/shortcut_project/conv/", "/branch1/2/"),
    (r"/shortcut_project/norm/", "/branch1/3/"),
    *[(f"/{unit}/conv/", f"/branch2/{i}/") for unit, i in UNITS.items()],
    *[(f"/{unit}/norm/", f"/branch2/{i + 1}/") for unit, i in UNITS.items()],
    (r"^head/", "fc/"),
)

V3_WIDTHS = (width_by("blocks.5.2.conv_pwl.weight", 160), width_by("blocks.4.2.conv_pwl.weight", 96))
TIMM = {
    "mobilenet_v1": (
        torch_table(
            *TIMM_STEM,
            *separable(r"\d+"),
            *TIMM_BLOCK,
            **rest("relu6", misfits.MOBILENET_V1_HEAD, options=(width_by("blocks.4.1.conv_pw.weight", 1024),)),
        ),
    ),
    "mobilenet_v2": (
        torch_table(
            *TIMM_STEM,
            *separable("1"),
            *TIMM_LAST,
            *TIMM_BLOCK,
            **rest("relu6", options=(width_by("blocks.6.0.conv_pwl.weight", 320),)),
        ),
    ),
    "mobilenet_v3": (
        torch_table(
            *TIMM_STEM,
            *separable("1"),
            *TIMM_V3_LAST,
            *TIMM_BLOCK,
            **rest("hard_swish", misfits.MOBILENET_V3_RW, options=V3_WIDTHS),
        ),
    ),
    "efficientnet": (torch_table(*TIMM_STEM, *separable("1"), *TIMM_LAST, *TIMM_BLOCK, **rest("silu")),),
}
STRIDES = {"padding": "both sides", "antialias": "none"}
V3_REST: dict[str, Any] = {
    "layouts": SE_1X1,
    "computes": {"activation": "hard_swish", "norm_epsilon": 1e-3, **STRIDES},
}
V3_HEAD: Rules = ((r"^pre_logits/", "classifier/0/"), (r"^head/", "classifier/3/"))
TORCHVISION = {
    "mobilenet_v2": (
        torchvision_table(
            V2_STAGES,
            *v2_rules(),
            (r"^head/", "classifier/1/"),
            computes={"activation": "relu6", "norm_epsilon": 1e-5, **STRIDES},
            what="seven stages",
        ),
    ),
    "mobilenet_v3": tuple(
        torchvision_table(stages, *v3_rules(variant), *V3_HEAD, *PARTS, what=f"all stages of {variant}", **V3_REST)
        for variant, stages in V3_STAGES.items()
    ),
    "efficientnet": (
        torch_table(
            *EFFICIENTNET,
            layouts=SE_1X1,
            lacks=(misfits.PROJECTION,),
            computes={"activation": "silu", "norm_epsilon": 1e-5, **STRIDES},
            assumed=("norm_epsilon",),
            options=((r"^features\.8\.0\.weight$", torchvision_epsilon),),
            architectures=((r"^efficientnet_b[5-7]", {"norm_epsilon": 1e-3}),),
        ),
    ),
    "shufflenet_v2": (
        torch_table(*SHUFFLENET_V2, lacks=(misfits.PROJECTION,), computes={"norm_epsilon": 1e-5, **STRIDES}),
    ),
}
