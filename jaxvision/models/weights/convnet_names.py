"""Names of timm and torchvision for AlexNet, VGG, the Inceptions, DenseNet, SENet-154, DarkNet-53 and NASNet-A."""

from collections.abc import Mapping
from typing import Any

from jaxvision.models.weights import misfits
from jaxvision.models.weights.table import Rules
from jaxvision.models.weights.torch_names import SQUEEZE_EXCITE, torch_table

LACKS = (misfits.PROJECTION,)
EPSILON: dict[str, Any] = {"computes": {"norm_epsilon": 1e-5}, "lacks": LACKS}
INCEPTION_EPSILON: dict[str, Any] = {"computes": {"norm_epsilon": 1e-3}, "lacks": LACKS}
FC6_OF_MAP: Rules = ((r"^params/hidden/fc6/kernel$", "torch_map"), (".", "torch"))

ALEXNET: Rules = (
    (r"^stem/conv1/", "features/0/"),
    (r"^stage1/conv2/", "features/3/"),
    (r"^stage2/conv3/", "features/6/"),
    (r"^stage2/conv4/", "features/8/"),
    (r"^stage2/conv5/", "features/10/"),
    (r"^hidden/fc6/", "classifier/1/"),
    (r"^hidden/fc7/", "classifier/4/"),
    (r"^head/", "classifier/6/"),
)


def vgg_features(norm: bool) -> Rules:
    """Makes the rules for the convolutions, which torch numbers with all the layers between them.

    Args:
      norm: True for the networks with BatchNorm.
    """
    step = 3 if norm else 2  # convolution, perhaps BatchNorm, ReLU; and a pooling behind each stage
    place = lambda stage, number: step * (number - 1) + stage - 1
    pairs = [(stage, number) for stage in range(1, 6) for number in range(1, 17)]
    convs = [(rf"^stage{s}/conv{n}/", f"features/{place(s, n)}/") for s, n in pairs]
    norms = [(rf"^stage{s}/norm{n}/", f"features/{place(s, n) + 1}/") for s, n in pairs if norm]
    return (*convs, *norms)


VGG_HEAD: Rules = (
    (r"^hidden/fc6/", "classifier/0/"),
    (r"^hidden/fc7/", "classifier/3/"),
    (r"^head/", "classifier/6/"),
)
TIMM_VGG_HEAD: Rules = (
    (r"^hidden/fc6/", "pre_logits/fc1/"),
    (r"^hidden/fc7/", "pre_logits/fc2/"),
    (r"^head/", "head/fc/"),
)
TIMM_VGG_LAYOUTS: Rules = ((r"^params/hidden/fc7/kernel$", "torch_1x1"), (".", "torch"))

# The Inceptions. Each block is a pattern of our path, its name in torch, and those of its branches.
UNIT: Rules = ((r"/norm/", "/bn/"),)
FIRST = {"1_1": "0", "2_(\\d)": "1/{1-1}", "3_(\\d)": "2/{1-1}", "4_1": "3/1"}  # branches by number, from 0


def block_rules(ours: str, theirs: str, branches: Mapping[str, str]) -> Rules:
    """Makes the rules of a block.

    Args:
      ours: Prefix of our path, a pattern without groups, up to the name of a branch.
      theirs: Prefix in torch.
      branches: Names of the branches in torch by ours, without "branch"; the groups of a pattern may be used.
    """
    return tuple((f"^{ours}/branch{mine}/", f"{theirs}/branch{name}/") for mine, name in branches.items())


GOOGLENET_BRANCHES = {"1_1": "1", "([23])_(\\d)": "{1}/{2-1}", "4_1": "4/1"}
GOOGLENET: Rules = (
    (r"^stem_conv1/", "conv1/"),
    (r"^stage1/block1/branch1_(\d)/", "conv{1+1}/"),
    *[
        rule
        for stage, letters in {2: "ab", 3: "abcde", 4: "ab"}.items()
        for i, letter in enumerate(letters, 1)
        for rule in block_rules(f"stage{stage}/block{i}", f"inception{stage + 1}{letter}", GOOGLENET_BRANCHES)
    ],
    (r"^(aux\d)/unit/", "{1}/conv/"),
    (r"^(aux\d)/fc/", "{1}/fc1/"),
    (r"^(aux\d)/head/", "{1}/fc2/"),
    (r"^head/", "fc/"),
    *UNIT,
)
GOOGLENET_LAYOUTS: Rules = ((r"^params/aux\d/fc/kernel$", "torch_map"), (".", "torch"))

V3_A = {"1_1": "1x1", "2_(\\d)": "5x5_{1}", "3_(\\d)": "3x3dbl_{1}", "4_1": "_pool"}
V3_C = {"1_1": "1x1", "2_(\\d)": "7x7_{1}", "3_(\\d)": "7x7dbl_{1}", "4_1": "_pool"}
V3_E = {"1_1": "1x1", "2_(\\d[ab]?)": "3x3_{1}", "3_(\\d[ab]?)": "3x3dbl_{1}", "4_1": "_pool"}
V3_BLOCKS = {
    **{f"stage2/block{i}": (f"Mixed_5{letter}", V3_A) for i, letter in enumerate("bcd", 1)},
    "stage3/block1": ("Mixed_6a", {"1_1": "3x3", "2_(\\d)": "3x3dbl_{1}"}),
    **{f"stage3/block{i}": (f"Mixed_6{letter}", V3_C) for i, letter in enumerate("bcde", 2)},
    "stage4/block1": ("Mixed_7a", {"1_(\\d)": "3x3_{1}", "2_(\\d)": "7x7x3_{1}"}),
    **{f"stage4/block{i}": (f"Mixed_7{letter}", V3_E) for i, letter in enumerate("bc", 2)},
}
INCEPTION_V3: Rules = (
    (r"^stem_conv1/", "Conv2d_1a_3x3/"),
    (r"^stem_conv2/", "Conv2d_2a_3x3/"),
    (r"^stem_conv3/", "Conv2d_2b_3x3/"),
    (r"^stage1/block1/branch1_1/", "Conv2d_3b_1x1/"),
    (r"^stage1/block1/branch1_2/", "Conv2d_4a_3x3/"),
    *[rule for ours, (theirs, branches) in V3_BLOCKS.items() for rule in block_rules(ours, theirs, branches)],
    (r"^aux1/unit(\d)/", "AuxLogits/conv{1-1}/"),
    (r"^aux1/head/", "AuxLogits/fc/"),
    (r"^head/", "fc/"),
    *UNIT,
)
PAIR = {"([12])_(\\d)": "{1-1}/{2-1}"}
V4_BLOCKS = {  # number in features, branches
    "stage1/block2": (4, PAIR),
    **{f"stage2/block{i}": (4 + i, FIRST) for i in range(2, 6)},
    **{f"stage3/block{i}": (9 + i, FIRST) for i in range(1, 9)},
    "stage4/block1": (18, PAIR),
    **{
        f"stage4/block{i}": (
            17 + i,
            {
                "1_1": "0",
                "2_1": "1_0",
                "2_2([ab])": "1_1{1}",
                "3_4([ab])": "2_3{1}",
                "3_(\\d)": "2_{1-1}",
                "4_1": "3/1",
            },
        )
        for i in range(2, 5)
    },
}
INCEPTION_V4: Rules = (
    (r"^stem_conv(\d)/", "features/{1-1}/"),
    (r"^stage1/block1/branch2_1/", "features/3/conv/"),
    (r"^stage2/block1/branch1_1/", "features/5/conv/"),
    *[rule for ours, (n, branches) in V4_BLOCKS.items() for rule in block_rules(ours, f"features/{n}", branches)],
    (r"^head/", "last_linear/"),
    *UNIT,
)
THREE = {"([123])_(\\d)": "{1-1}/{2-1}"}
RESNET_BLOCKS = {
    "stage2/block1": ("mixed_5b", FIRST),
    **{f"stage2/block{i}": (f"repeat/{i - 2}", FIRST) for i in range(2, 12)},
    "stage3/block1": ("mixed_6a", FIRST),
    **{f"stage3/block{i}": (f"repeat_1/{i - 2}", FIRST) for i in range(2, 22)},
    "stage4/block1": ("mixed_7a", THREE),
    **{f"stage4/block{i}": (f"repeat_2/{i - 2}", FIRST) for i in range(2, 11)},
    "stage4/block11": ("block8", FIRST),
}
INCEPTION_RESNET_V2: Rules = (
    (r"^stem_conv1/", "conv2d_1a/"),
    (r"^stem_conv2/", "conv2d_2a/"),
    (r"^stem_conv3/", "conv2d_2b/"),
    (r"^stage1/block1/branch1_1/", "conv2d_3b/"),
    (r"^stage1/block1/branch1_2/", "conv2d_4a/"),
    (r"^stage4/block12/branch1_1/", "conv2d_7b/"),
    *[
        rule
        for ours, (theirs, branches) in RESNET_BLOCKS.items()
        for rule in (*block_rules(ours, theirs, branches), (f"^{ours}/project/", f"{theirs}/conv2d/"))
    ],
    (r"^head/", "classif/"),
    *UNIT,
)

DENSENET: Rules = (
    (r"^stem_(conv|norm)/", "features/{1}0/"),
    (r"^stage(\d)/layer(\d+)/", "features/denseblock{1}/denselayer{2}/"),
    (r"^stage(\d)/transition_(conv|norm)/", "features/transition{1-1}/{2}/"),
    (r"^norm/", "features/norm5/"),
    (r"^head/", "classifier/"),
)
# torchvision's published files are older than its code: norm.1 for norm1, ...
DENSENET_FILES: Rules = (*DENSENET, (r"/(conv|norm)([12])/", "/{1}/{2}/"))
SENET: Rules = (
    (r"^stage(\d+)/block(\d+)/", "layer{1}/{2-1}/"),
    (r"/norm(\d)/", "/bn{1}/"),
    (r"/shortcut_conv/", "/downsample/0/"),
    (r"/shortcut_norm/", "/downsample/1/"),
)
LEGACY_SENET: Rules = (
    (r"^stem_conv(\d)/", "layer0/conv{1}/"),
    (r"^stem_norm(\d)/", "layer0/bn{1}/"),
    *SENET,
    (r"/se/", "/se_module/"),
    (r"^head/", "last_linear/"),
)
TIMM_SENET: Rules = (
    (r"^stem_conv1/", "conv1/0/"),
    (r"^stem_norm1/", "conv1/1/"),
    (r"^stem_conv2/", "conv1/3/"),
    (r"^stem_norm2/", "conv1/4/"),
    (r"^stem_conv3/", "conv1/6/"),
    (r"^stem_norm3/", "bn1/"),
    *SENET,
    (r"^head/", "fc/"),
)
SENET_REST: dict[str, Any] = EPSILON | {
    "layouts": SQUEEZE_EXCITE,
    "options": ((r"^layer0\.", {"pool_padding": "end"}), (r"^conv1\.0\.", {"pool_padding": "both sides"})),
}
DARKNET: Rules = (
    (r"^stem_conv/", "stem/conv1/"),
    (r"^stage(\d)/downsample/", "stages/{1-1}/conv_down/"),
    (r"^stage(\d)/unit(\d)_(\d)/", "stages/{1-1}/blocks/{2-1}/conv{3}/"),
    (r"^head/", "head/fc/"),
    *UNIT,
)

NASNET_LARGE = {"counts_padding": True, "skip": True}
CELLS = 6  # normal cells of each resolution in timm's nasnetalarge, numbered through
NASNET: Rules = (
    (r"^stem_conv/", "conv0/conv/"),
    (r"^stem_norm/", "conv0/bn/"),
    (r"^stage([12])/reduction/", "cell_stem_{1-1}/"),
    (r"^stage([34])/reduction/", "reduction_cell_{1-3}/"),
    *[(rf"^stage{stage}/block(\d)/", f"cell_{{1+{CELLS * (stage - 2) - 1}}}/") for stage in (3, 4)],
    (r"^stage2/block(\d)/", "cell_{1-1}/"),
    (r"/current/conv/", "/conv_1x1/conv/"),
    (r"/current/norm/", "/conv_1x1/bn/"),
    (r"/previous_conv/conv/", "/conv_prev_1x1/conv/"),
    (r"/previous_conv/norm/", "/conv_prev_1x1/bn/"),
    (r"/previous_halved/conv(\d)/", "/path_{1}/conv/"),
    (r"/previous_halved/norm/", "/final_path_bn/"),
    (r"/pair(\d)_(left|right)/", "/comb_iter_{1-1}_{2}/"),
    (r"/(depthwise|pointwise)(\d)/", "/separable_{2}/{1}_conv2d/"),
    (r"/norm(\d)/", "/bn_sep_{1}/"),
    (r"^head/", "last_linear/"),
)

AUX_OF_V3 = (r"^AuxLogits\.",)
V3_TABLES = (
    torch_table(*INCEPTION_V3, when=r"^params/aux1/", **INCEPTION_EPSILON),
    torch_table(*INCEPTION_V3, unused=AUX_OF_V3, **INCEPTION_EPSILON),
)
TIMM = {
    "vgg": (
        torch_table(*vgg_features(True), *TIMM_VGG_HEAD, when=r"/norm1/", layouts=TIMM_VGG_LAYOUTS, **EPSILON),
        torch_table(*vgg_features(False), *TIMM_VGG_HEAD, layouts=TIMM_VGG_LAYOUTS, **EPSILON),
    ),
    "inception": (
        torch_table(*INCEPTION_RESNET_V2, when=r"/project/", what="resnet_v2", **INCEPTION_EPSILON),
        torch_table(*INCEPTION_V4, when=r"/branch3_4a/", what="v4", **INCEPTION_EPSILON),
        *V3_TABLES,
    ),
    "densenet": (torch_table(*DENSENET, **EPSILON),),
    "senet": (torch_table(*LEGACY_SENET, **SENET_REST), torch_table(*TIMM_SENET, **SENET_REST)),
    "nasnet": (torch_table(*NASNET, options=((r".", NASNET_LARGE),), **INCEPTION_EPSILON),),
    "darknet": (torch_table(*DARKNET, options=((r".", {"slope": 0.01}),), **EPSILON),),
}
TORCHVISION = {
    "alexnet": (torch_table(*ALEXNET, layouts=FC6_OF_MAP, lacks=LACKS),),
    "vgg": (
        torch_table(*vgg_features(True), *VGG_HEAD, when=r"/norm1/", layouts=FC6_OF_MAP, **EPSILON),
        torch_table(*vgg_features(False), *VGG_HEAD, layouts=FC6_OF_MAP, **EPSILON),
    ),
    "googlenet": (
        torch_table(*GOOGLENET, when=r"^params/aux1/", layouts=GOOGLENET_LAYOUTS, **INCEPTION_EPSILON),
        torch_table(*GOOGLENET, unused=(r"^aux\d\.",), **INCEPTION_EPSILON),
    ),
    "inception": V3_TABLES,
    "densenet": (torch_table(*DENSENET, **EPSILON), torch_table(*DENSENET_FILES, **EPSILON)),
}
