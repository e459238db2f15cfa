"""Names of timm and torchvision: tables for torch's layout."""

import math
from typing import Any

import numpy as np

from jaxvision.models.weights import misfits
from jaxvision.models.weights.table import COLLECTION, Rules, Table
from jaxvision.models.weights.torch_properties import (
    BIT_PROPERTIES,
    CLIP_RESNET_COMPUTES,
    CONVNEXT_PROPERTIES,
    RESNET_PROPERTIES,
    RESNET_V2_PROPERTIES,
    TIMM_RESNET_PROPERTIES,
    VIT_PROPERTIES,
)

LAST = (
    (r"(?:kernel|(?<!logit_)(?<!layer_)scale|embedding/embedding)$", "weight"),
    (r"mean$", "running_mean"),
    (r"var$", "running_var"),
    (r"/", "."),
)


def torch_table(*rules: tuple[str, str], unused: tuple[str, ...] = (), **rest: Any) -> Table:
    """Makes a table in torch's layout: `/` becomes `.`, and our names of leaves become torch's.

    Args:
      *rules: Renames of everything before the leaves, with `/` between parts.
      unused: Patterns of names in the file that hold nothing of this model.
      **rest: Further fields of the `Table`.
    """
    return Table((COLLECTION, *rules, *LAST), unused=(r"num_batches_tracked$", *unused), **rest)


MLP: Rules = ((r"/dense_0/", "/fc1/"), (r"/dense_1/", "/fc2/"))
RESNET: Rules = (
    (r"^stem_conv/", "conv1/"),
    (r"^stem_norm/", "bn1/"),
    (r"^stage(\d+)/block(\d+)/", "layer{1}/{2-1}/"),
    (r"/norm(\d)/", "/bn{1}/"),
    (r"/shortcut_conv/", "/downsample/0/"),
    (r"/shortcut_norm/", "/downsample/1/"),
    (r"^head/", "fc/"),
)
RESNET_D: Rules = (
    (r"^stem_conv1/", "conv1/0/"),
    (r"^stem_norm1/", "conv1/1/"),
    (r"^stem_conv2/", "conv1/3/"),
    (r"^stem_norm2/", "conv1/4/"),
    (r"^stem_conv3/", "conv1/6/"),
    (r"^stem_norm3/", "bn1/"),
    (r"/shortcut_conv/", "/downsample/1/"),
    (r"/shortcut_norm/", "/downsample/2/"),
)
SQUEEZE_EXCITE: Rules = ((r"/se/fc\d/kernel$", "torch_1x1"), (".", "torch"))
RESNET_V2: Rules = (
    (r"^stem_conv/", "stem/conv/"),
    (r"^stage(\d+)/block(\d+)/", "stages/{1-1}/blocks/{2-1}/"),
    (r"/shortcut_conv/", "/downsample/conv/"),
    (r"^head/", "head/fc/"),
)
HEAD_1X1: Rules = ((r"^params/head/kernel$", "torch_1x1"), (".", "torch"))
CONVNEXT: Rules = (
    (r"^stem_conv/", "stem/0/"),
    (r"^stem_norm/", "stem/1/"),
    (r"^stage(\d+)/", "stages/{1-1}/"),
    (r"/downsample_norm/", "/downsample/0/"),
    (r"/downsample/(kernel|bias)$", "/downsample/1/{1}"),
    (r"/block(\d+)/", "/blocks/{1-1}/"),
    (r"/depthwise/", "/conv_dw/"),
    (r"/scale/scale$", "/gamma"),
    (r"^norm/", "head/norm/"),
    (r"^head/(kernel|bias)$", "head/fc/{1}"),
    *MLP,
)
VIT: Rules = (
    (r"^pos_embedding$", "pos_embed"),
    (r"^cls$", "cls_token"),
    (r"^distillation_token$", "dist_token"),
    (r"^distillation_head/", "head_dist/"),
    (r"^registers$", "reg_token"),
    (r"^embedding/", "patch_embed/proj/"),
    (r"^pre_norm/", "norm_pre/"),
    (r"^pool/probe$", "attn_pool/latent"),
    (r"^pool/attention/(?:key|value)/", "attn_pool/kv/"),
    (r"^pool/attention/query/", "attn_pool/q/"),
    (r"^pool/attention/out/", "attn_pool/proj/"),
    (r"^pool/", "attn_pool/"),
    (r"^encoder/norm/", "norm/"),
    (r"^encoder/block_0?(\d+)/", "blocks/{1}/"),
)
VIT_ATTENTION: Rules = (
    (r"/attention/(?:query|key|value)/", "/attn/qkv/"),
    (r"/attention/query_norm/", "/attn/q_norm/"),
    (r"/attention/key_norm/", "/attn/k_norm/"),
    (r"/attention/out/", "/attn/proj/"),
    *MLP,
)
VIT_BLOCK: Rules = (
    (r"/attention_norm/", "/norm1/"),
    (r"/mlp_norm/", "/norm2/"),
    (r"/attention_scale/scale$", "/ls1/gamma"),
    (r"/mlp_scale/scale$", "/ls2/gamma"),
    *VIT_ATTENTION,
)
VIT_PAIRS: Rules = (  # ParallelThingsBlock; the names of our second of each pair end in _2
    (r"(blocks/\d+)/attention_norm/", "{1}/attns/0/norm/"),
    (r"(blocks/\d+)/attention_scale/scale$", "{1}/attns/0/ls/gamma"),
    (r"(blocks/\d+)/attention/", "{1}/attns/0/attention/"),
    (r"(blocks/\d+)/mlp_norm/", "{1}/ffns/0/norm/"),
    (r"(blocks/\d+)/mlp_scale/scale$", "{1}/ffns/0/ls/gamma"),
    (r"(blocks/\d+)/mlp/", "{1}/ffns/0/mlp/"),
    (r"/attention_norm_2/", "/attns/1/norm/"),
    (r"/attention_scale_2/scale$", "/attns/1/ls/gamma"),
    (r"/attention_2/", "/attns/1/attention/"),
    (r"/mlp_norm_2/", "/ffns/1/norm/"),
    (r"/mlp_scale_2/scale$", "/ffns/1/ls/gamma"),
    (r"/mlp_2/", "/ffns/1/mlp/"),
    *VIT_ATTENTION,
)
# The decoder of facebookresearch/mae, which has the names of its encoder's parts with `decoder_` before them.
MAE_DECODER: Rules = (
    (r"^decoder/mask_token$", "mask_token"),
    (r"^decoder/embedding/", "decoder_embed/"),
    (r"^decoder/encoder/norm/", "decoder_norm/"),
    (r"^decoder/encoder/block_0?(\d+)/", "decoder_blocks/{1}/"),
    (r"^decoder/prediction/", "decoder_pred/"),
)
MAE_POSITIONS = (r"^decoder_pos_embed$",)  # fixed, and computed by our decoder
PRETRAINING = (r"^decoder_", r"^mask_token$")  # of MAE, DINOv2, ...: what the model itself does not have
VIT_OPTIONS = (
    (r".", {"posemb": "learned", "gelu": "exact", "pool": "gap"}),
    (r"^cls_token$|^class_token$", {"pool": "token"}),
    (r"^dist_token$", {"distilled": True}),
    (r"^attn_pool\.", {"pool": "map"}),
    (r"^norm_pre\.", {"pre_norm": True, "norm_epsilon": 1e-5}),  # CLIP's alone have it
    (r"\.ls1\.gamma$", {"layer_scale": 1e-5}),
    (r"\.q_norm\.", {"qk_norm": True}),
    (r"^fc_norm\.", {"fc_norm": True}),
    (r"^(?:patch_embed|cls_token|reg_token)\b", lambda arrays: timm_vit_options(arrays)),
)


def timm_vit_options(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns options of timm's ViT that follow from shapes and from arrays that are absent.

    Args:
      arrays: Arrays of the file by name.
    """
    arrays = {name.removeprefix("visual.trunk."): x for name, x in arrays.items()}
    options: dict[str, Any] = {}
    if "fc_norm.weight" in arrays and "attn_pool.latent" not in arrays:  # by default `fc_norm` goes with the mean
        options |= {"pool": "gap"} | ({"class_token": True} if "cls_token" in arrays else {})
    elif "cls_token" in arrays and "attn_pool.latent" in arrays:
        options["class_token"] = True
    if "patch_embed.proj.weight" in arrays and "patch_embed.proj.bias" not in arrays:
        options["patch_bias"] = False
    registers = arrays["reg_token"].shape[-2] if "reg_token" in arrays else 0
    if registers:
        options["registers"] = registers
    positions = arrays["pos_embed"].shape[-2] if "pos_embed" in arrays else 0
    # A square number of positions is a grid alone, so the class token has none.
    if "cls_token" in arrays and positions and math.isqrt(positions) ** 2 == positions:
        options["cls_position"] = False
    return options


# Biases that are zero if all of one kind are absent: qkv_bias=False, proj_bias=False; conv_bias=False.
VIT_ZEROS = (
    r"/block_\d+/attention(?:_2)?/(?:query|key|value)/bias$",
    r"/block_\d+/(?:attention(?:_2)?/out|mlp(?:_2)?/dense_\d)/bias$",
)
CONVNEXT_ZEROS = (r"/(?:stem_conv|depthwise|downsample)/bias$",)
TORCHVISION_CONVNEXT: Rules = (
    (r"^stem_conv/", "features/0/0/"),
    (r"^stem_norm/", "features/0/1/"),
    (r"^stage1/block(\d+)/", "features/1/{1-1}/"),
    (r"^stage2/block(\d+)/", "features/3/{1-1}/"),
    (r"^stage3/block(\d+)/", "features/5/{1-1}/"),
    (r"^stage4/block(\d+)/", "features/7/{1-1}/"),
    (r"^stage2/downsample", "features/2/downsample"),
    (r"^stage3/downsample", "features/4/downsample"),
    (r"^stage4/downsample", "features/6/downsample"),
    (r"/downsample_norm/", "/0/"),
    (r"/downsample/", "/1/"),
    (r"/depthwise/", "/block/0/"),
    (r"^(features/\d+/\d+)/norm/", "{1}/block/2/"),
    (r"/mlp/dense_0/", "/block/3/"),
    (r"/mlp/dense_1/", "/block/5/"),
    (r"/scale/scale$", "/layer_scale"),
    (r"^norm/", "classifier/0/"),
    (r"^head/", "classifier/2/"),
)
TIMM_CLIP_RESNET: Rules = (
    (r"^stem_conv(\d)/", "stem/conv{1}/conv/"),
    (r"^stem_norm(\d)/", "stem/conv{1}/bn/"),
    (r"^stage(\d+)/block(\d+)/", "stages/{1-1}/{2-1}/"),
    (r"/shortcut_conv/", "/shortcut/conv/conv/"),
    (r"/shortcut_norm/", "/shortcut/conv/bn/"),
    (r"^(stages/.*)/conv([13])/", "{1}/conv{2}_1x1/conv/"),
    (r"^(stages/.*)/norm([13])/", "{1}/conv{2}_1x1/bn/"),
    (r"^(stages/.*)/conv2/", "{1}/conv2_kxk/conv/"),
    (r"^(stages/.*)/norm2/", "{1}/conv2_kxk/bn/"),
    (r"^pool/pos_embedding$", "head/pos_embed"),
    (r"^pool/attention/(.)(?:uery|ey|alue)/", "head/{1}/"),
    (r"^pool/attention/out/", "head/proj/"),
    (r"^head/(kernel|bias)$", "fc/{1}"),
)
MIXER: Rules = (
    (r"^embedding/", "stem/proj/"),
    (r"^encoder/norm/", "norm/"),
    (r"^encoder/block_0?(\d+)/", "blocks/{1}/"),
    (r"/token_norm/", "/norm1/"),
    (r"/channel_norm/", "/norm2/"),
    (r"/token_mlp/", "/mlp_tokens/"),
    (r"/channel_mlp/", "/mlp_channels/"),
    *MLP,
)
BARE: Rules = ((r"/(?:cls|pos_embedding)$", "bare"), (".", "torch"))
TORCHVISION_VIT: Rules = (
    (r"^pos_embedding$", "encoder/pos_embedding"),
    (r"^cls$", "class_token"),
    (r"^embedding/", "conv_proj/"),
    (r"^encoder/norm/", "encoder/ln/"),
    (r"^encoder/block_0?(\d+)/", "encoder/layers/encoder_layer_{1}/"),
    (r"/attention_norm/", "/ln_1/"),
    (r"/mlp_norm/", "/ln_2/"),
    (r"/attention/(?:query|key|value)/kernel$", "/self_attention/in_proj_weight"),
    (r"/attention/(?:query|key|value)/bias$", "/self_attention/in_proj_bias"),
    (r"/attention/out/", "/self_attention/out_proj/"),
    (r"/mlp/dense_0/", "/mlp/0/"),
    (r"/mlp/dense_1/", "/mlp/3/"),
    (r"^head/", "heads/head/"),
)


def no_layer_scale(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns the option of a ConvNeXt without layer scale, if the file has none.

    Args:
      arrays: Arrays of the file by name.
    """
    return {} if any(name.endswith((".gamma", ".layer_scale")) for name in arrays) else {"layer_scale": None}


TIMM_VIT: dict[str, Any] = {
    "options": VIT_OPTIONS,
    "zeros": VIT_ZEROS,
    "lacks": misfits.TIMM_VIT,
    "reasons": misfits.VIT_REASONS,
}
TIMM_VIT |= VIT_PROPERTIES
TIMM_RESNET: dict[str, Any] = {
    "layouts": SQUEEZE_EXCITE,
    "lacks": (misfits.PROJECTION,),
    "reasons": misfits.RESNET_REASONS,
}
TIMM_RESNET |= TIMM_RESNET_PROPERTIES
CONVNEXT_REST: dict[str, Any] = {
    "zeros": CONVNEXT_ZEROS,
    "lacks": (misfits.PROJECTION,),
    "reasons": misfits.CONVNEXT_REASONS,
}
CONVNEXT_OPTIONS = ((r".", no_layer_scale),)
RESNET_V2_REST: dict[str, Any] = {
    "layouts": HEAD_1X1,
    "lacks": (misfits.PROJECTION,),
    "reasons": misfits.RESNET_V2_REASONS,
}
LAYER_SCALE: Rules = ((r"/scale/scale$", "spatial"), (".", "torch"))
TIMM = {
    "vit": (
        torch_table(*VIT, *VIT_PAIRS, when=r"/attention_2/", **TIMM_VIT),
        torch_table(*MAE_DECODER, *VIT, *VIT_BLOCK, when=r"^params/decoder/encoder/", unused=MAE_POSITIONS, **TIMM_VIT),
        torch_table(*VIT, *VIT_BLOCK, unused=PRETRAINING, **TIMM_VIT),
    ),
    "mixer": (
        torch_table(
            *MIXER,
            options=((r".", {"gelu": "exact"}),),
            computes={"norm_epsilon": 1e-6},
            lacks=(misfits.PROJECTION,),
            reasons=misfits.MIXER_REASONS,
        ),
    ),
    "convnext": (torch_table(*CONVNEXT, options=CONVNEXT_OPTIONS, **CONVNEXT_REST, **CONVNEXT_PROPERTIES),),
    "resnet": (
        torch_table(*RESNET_D, *RESNET, when=r"stem_conv1", **TIMM_RESNET),
        torch_table(*RESNET, **TIMM_RESNET),
    ),
    "resnet_v2": (torch_table(*RESNET_V2, **RESNET_V2_REST, **RESNET_V2_PROPERTIES),),
    "bit": (torch_table(*RESNET_V2, **RESNET_V2_REST, **BIT_PROPERTIES),),
    "clip_resnet": (
        torch_table(*TIMM_CLIP_RESNET, layouts=BARE, lacks=(misfits.PROJECTION,), computes=CLIP_RESNET_COMPUTES),
    ),
}
TORCHVISION = {
    "vit": (
        torch_table(
            *TORCHVISION_VIT,
            options=VIT_OPTIONS,
            computes={"norm_epsilon": 1e-6},
            lacks=misfits.TORCHVISION_VIT,
            reasons=misfits.VIT_REASONS,
        ),
    ),
    "resnet": (
        torch_table(*RESNET, lacks=misfits.TORCHVISION_RESNET, reasons=misfits.RESNET_REASONS, **RESNET_PROPERTIES),
    ),
    "convnext": (
        torch_table(
            *TORCHVISION_CONVNEXT,
            layouts=LAYER_SCALE,
            options=CONVNEXT_OPTIONS,
            computes=CONVNEXT_PROPERTIES["computes"],
            **CONVNEXT_REST,
        ),
    ),
}
# CIFAR's ResNets of 20 to 1202 layers. Their shortcuts have no parameters: x[:, :, ::2, ::2], padded by a quarter of
# the new channels on both sides. With projections (option B) the shortcuts are named shortcut.0 and shortcut.1.
CIFAR_RESNET: Rules = (
    (r"/shortcut_conv/", "/shortcut/0/"),
    (r"/shortcut_norm/", "/shortcut/1/"),
    (r"^head/", "linear/"),
    *RESNET,
)
RESNET_CIFAR10 = {
    "resnet": (
        torch_table(
            *CIFAR_RESNET,
            prefixes=("", "module."),
            options=((r".", {"shortcut": "zeros_centred"}), (r"\.shortcut\.0\.", {"shortcut": "B"})),
            computes=RESNET_PROPERTIES["computes"],
        ),
    )
}
# MoCo's own checkpoints (github.com/facebookresearch/moco and moco-v3): timm's ViT and torchvision's ResNet, as the
# trained encoder next to the teacher, with a projection in place of the classifier.
MOCO_ENCODERS = ("base_encoder.", "encoder_q.", "")
MOCO_UNUSED = (r"^(?:head|fc)\.\d+\.",)


def moco_vit_options(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns the number of heads of MoCo v3's ViTs, which differs from the usual one in the ViT-S.

    Args:
      arrays: Arrays of the file by name.
    """
    tokens = next((x for name, x in arrays.items() if name.endswith("cls_token")), None)
    return {} if tokens is None else {"num_heads": 16 if tokens.shape[-1] >= 1024 else 12}


MOCO = {
    "vit": (
        torch_table(
            *VIT,
            *VIT_BLOCK,
            prefixes=MOCO_ENCODERS,
            unused=MOCO_UNUSED,
            options=(
                (r".", {"posemb": "learned", "gelu": "exact", "pool": "token"}),
                (r"cls_token$", moco_vit_options),
            ),
            computes={"norm_epsilon": 1e-6},
            lacks=(*misfits.TIMM_VIT, *misfits.vit_lacks("registers", "layer scale")),
            reasons=misfits.VIT_REASONS,
        ),
    ),
    "resnet": (
        torch_table(
            *RESNET,
            prefixes=MOCO_ENCODERS,
            unused=MOCO_UNUSED,
            lacks=misfits.TORCHVISION_RESNET,
            reasons=misfits.RESNET_REASONS,
            **RESNET_PROPERTIES,
        ),
    ),
}
LENET5 = {
    "lenet": (
        torch_table(
            (r"^(c\d)/", "convnet/{1}/"),
            (r"^f6/", "fc/f6/"),
            (r"^head/", "fc/f7/"),
            computes={"activation": "relu", "pool": "max"},
        ),
    ),
}
