"""timm's names of Swin Transformers, MViT v2, ResMLP and gMLP: tables in torch's layout."""

import math
from typing import Any

import numpy as np

from jaxvision.models.weights import misfits
from jaxvision.models.weights.table import Rules
from jaxvision.models.weights.torch_names import MLP, VIT_ATTENTION, torch_table

# Buffers that follow from the size of the windows. timm keeps them out of its files; those of the authors have them.
SWIN_UNUSED = (r"relative_position_index$", r"attn_mask$", r"relative_coords_table$", r"attn\.k_bias$")
SWIN: Rules = (
    (r"^stem_conv/", "patch_embed/proj/"),
    (r"^stem_norm/", "patch_embed/norm/"),
    (r"^stage(\d+)/block(\d+)/", "layers/{1-1}/blocks/{2-1}/"),
    (r"^stage(\d+)/downsample_norm/", "layers/{1-1}/downsample/norm/"),
    (r"^stage(\d+)/downsample/", "layers/{1-1}/downsample/reduction/"),
    (r"/position_bias$", "/attn/relative_position_bias_table"),
    (r"/attention_norm/", "/norm1/"),
    (r"/mlp_norm/", "/norm2/"),
    (r"^head/(kernel|bias)$", "head/fc/{1}"),
    *VIT_ATTENTION,
)
SWIN_V2: Rules = (
    (r"/attention/query/bias$", "/attn/q_bias"),
    (r"/attention/value/bias$", "/attn/v_bias"),
    (r"/attention/log_scale$", "/attn/logit_scale"),
    (r"/attention/bias_0/", "/attn/cpb_mlp/0/"),
    (r"/attention/bias_1/", "/attn/cpb_mlp/2/"),
    *SWIN,
)
MVIT: Rules = (
    (r"^stem_conv/", "patch_embed/proj/"),
    (r"^stage(\d+)/block(\d+)/", "stages/{1-1}/blocks/{2-1}/"),
    (r"/attention_norm/", "/norm1/"),
    (r"/mlp_norm/", "/norm2/"),
    (r"/shortcut/", "/shortcut_proj_attn/"),
    (r"/attention/(q|k|v)\w+_(pool|norm)/", "/attn/{2}_{1}/"),
    (r"/attention/row_positions$", "/attn/rel_pos_h"),
    (r"/attention/column_positions$", "/attn/rel_pos_w"),
    (r"^head/(kernel|bias)$", "head/fc/{1}"),
    *VIT_ATTENTION,
)
RESMLP: Rules = (
    (r"^embedding/", "stem/proj/"),
    (r"^norm/scale$", "norm/alpha"),
    (r"^norm/bias$", "norm/beta"),
    (r"^encoder/block_0?(\d+)/", "blocks/{1}/"),
    (r"/token_norm/scale$", "/norm1/alpha"),
    (r"/token_norm/bias$", "/norm1/beta"),
    (r"/channel_norm/scale$", "/norm2/alpha"),
    (r"/channel_norm/bias$", "/norm2/beta"),
    (r"/token_scale/scale$", "/ls1"),
    (r"/channel_scale/scale$", "/ls2"),
    (r"/token_dense/", "/linear_tokens/"),
    (r"/channel_mlp/", "/mlp_channels/"),
    *MLP,
)
GMLP: Rules = (
    (r"^embedding/", "stem/proj/"),
    (r"^encoder/norm/", "norm/"),
    (r"^encoder/block_0?(\d+)/", "blocks/{1}/"),
    (r"/gate_norm/", "/mlp_channels/gate/norm/"),
    (r"/gate_dense/", "/mlp_channels/gate/proj/"),
    (r"/dense_0/", "/mlp_channels/fc1/"),
    (r"/dense_1/", "/mlp_channels/fc2/"),
)


def swin_window(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns the side of a window, from the number of offsets between two places of it.

    Args:
      arrays: Arrays of the file by name.
    """
    offsets = max((x.shape[0] for name, x in arrays.items() if name.endswith("position_bias_table")), default=0)
    return {"window": (math.isqrt(offsets) + 1) // 2} if offsets else {}


def mvit_size(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns the side of the images in pretraining, from the relative positions of the first block.

    Args:
      arrays: Arrays of the file by name.
    """
    positions, stem = (
        next((x for name, x in arrays.items() if name.endswith(last)), None)
        for last in ("stages.0.blocks.0.attn.rel_pos_h", "patch_embed.proj.weight")
    )
    if positions is None or stem is None:
        return {}
    patch = (stem.shape[-1] + 1) // 2  # the kernel has 2 * patch - 1 pixels
    return {"pretrained_size": patch * (len(positions) + 1) // 2}


LACKS = (misfits.PROJECTION,)
TIMM = {
    "swin": (
        torch_table(
            *SWIN,
            unused=SWIN_UNUSED,
            options=((r"position_bias_table$", swin_window),),
            computes={"norm_epsilon": 1e-5, "gelu": "exact"},
            lacks=LACKS,
        ),
    ),
    "swin_v2": (
        torch_table(
            *SWIN_V2,
            unused=SWIN_UNUSED,
            layouts=((r"/log_scale$", "spatial"), (".", "torch")),
            options=((r".", {"window": 8}),),
            computes={"norm_epsilon": 1e-5, "gelu": "exact", "pretrained_windows": None},
            assumed=("window",),
            architectures=(
                (r"_window16_", {"window": 16}),
                (r"_window7_", {"window": 7}),
                # Fine-tuned with larger windows; in the last stage that of pretraining was the whole map.
                (r"_window12to16_", {"window": 16, "pretrained_windows": "12, 12, 12, 6"}),
                (r"_window12to24_", {"window": 24, "pretrained_windows": "12, 12, 12, 6"}),
            ),
            lacks=LACKS,
        ),
    ),
    "mvit_v2": (
        torch_table(
            *MVIT,
            options=((r"\.rel_pos_h$", mvit_size),),
            computes={"norm_epsilon": 1e-6, "gelu": "exact", "key_stride": 4},
            lacks=LACKS,
            reasons=misfits.MVIT_REASONS,
        ),
    ),
    "resmlp": (
        torch_table(
            *RESMLP,
            layouts=((r"norm/(?:scale|bias)$", "of_tokens"), (".", "torch")),
            computes={"gelu": "exact"},
            lacks=LACKS,
        ),
    ),
    "gmlp": (torch_table(*GMLP, computes={"norm_epsilon": 1e-6, "gelu": "exact"}, lacks=LACKS),),
}
