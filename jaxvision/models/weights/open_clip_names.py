"""Names of open_clip's models: those of OpenAI's CLIP, and those with a tower of timm (`visual.trunk.`), as SigLIP."""

from typing import Any

import numpy as np

from jaxvision.models.weights import misfits
from jaxvision.models.weights.table import Rules, Table, within
from jaxvision.models.weights.torch_names import (
    CLIP_SIZES,
    CLIP_TEXT,
    CONVNEXT,
    CONVNEXT_REST,
    PAIR_LACKS,
    TIMM_VIT,
    VIT,
    VIT_BLOCK,
    VIT_OPTIONS,
    clip,
    no_layer_scale,
    torch,
)
from jaxvision.models.weights.torch_properties import CONVNEXT_PROPERTIES

TRUNK = "visual.trunk."
TRUNK_VIT: Rules = (*VIT, *VIT_BLOCK)
HEADS = ("visual/head/proj/", "visual/trunk/head/")  # of timm's tower: a projection behind it, or its classifier
TEXTS = (  # what stands before the text tower's names, and whether its projection is a layer or a matrix
    ("", "matrix"),
    ("text/", "layer"),
    ("text/", "matrix"),
)
# Of timm's ViT, in place of those of CLIP's, which the first table of open_clip's ViTs gives.
TRUNK_DEFAULTS = {"pre_norm": False, "patch_bias": True, "norm_epsilon": 1e-6}


SIGLIP_2_WORDS = 256_000
# Width and patch of its image towers whose GELU is timm's approximation by tanh, and the patches of one that has it at
# this size alone (0 is any): B/32, So400m/16, g-opt/16, and L/16 at 512 pixels.
SIGLIP_2_TANH = ((768, 32, 0), (1152, 16, 0), (1536, 16, 0), (1024, 16, 1024))


def siglip_text(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The text tower of SigLIP: exact GELU in the first and its multilingual one, tanh in the second."""
    words, length = len(arrays["text.token_embedding.weight"]), len(arrays["text.positional_embedding"])
    told = {"vocab_size": words, "length": length, "gelu": "tanh" if words == SIGLIP_2_WORDS else "exact"}
    return {"text": told | {"causal": False, "pool": "last", "end_token": None, "norm_epsilon": 1e-6}}


def siglip_image(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """The GELU of the image tower of SigLIP 2; nothing for other weights."""
    kernel, positions = (arrays.get(TRUNK + name) for name in ("patch_embed.proj.weight", "pos_embed"))
    words = arrays.get("text.token_embedding.weight")
    if kernel is None or positions is None or words is None or len(words) != SIGLIP_2_WORDS:
        return {}
    width, patch, n = kernel.shape[0], kernel.shape[-1], positions.shape[-2]
    return {"gelu": "tanh" if {(width, patch, 0), (width, patch, n)} & set(SIGLIP_2_TANH) else "exact"}


def of_trunk(options: dict[str, Any] | Any, pair: bool) -> Any:
    """Options of a ViT as those of the image tower of a pair."""
    if not pair:
        return options
    return (lambda arrays: {"image": options(arrays)}) if callable(options) else {"image": options}


def behind_trunk(pattern: str) -> str:
    """A pattern over timm's names as one over those behind `visual.trunk.`."""
    return pattern.replace("^", r"^visual\.trunk\.")


def vit_options(pair: bool) -> tuple:
    """timm's, for the names behind `visual.trunk.`."""
    every = r"^visual\.trunk\.patch_embed\."
    found = [(every, TRUNK_DEFAULTS)]
    found += [(every if pattern == "." else behind_trunk(pattern), options) for pattern, options in VIT_OPTIONS]
    found.append((behind_trunk(r"^attn_pool\."), siglip_image))
    return tuple((pattern, of_trunk(options, pair)) for pattern, options in found)


def towers(image: Rules, head: str, text: str, projection: str, **rest: Any) -> Table:
    """Both towers, that of images being timm's."""
    texts = (
        (r"^text_tower/projection/kernel$", f"{text}text_projection")
        if projection == "matrix"
        else (r"^text_tower/projection/", f"{text}text_projection/")
    )
    lacks = [PAIR_LACKS[1]] + ([(r"text_tower/projection/bias$", PAIR_LACKS[0][1])] if projection == "matrix" else [])
    return torch(
        (r"^image_tower/projection/", head),
        texts,
        *within("image_tower/", TRUNK.replace(".", "/"), image),
        *within("text_tower/", text, CLIP_TEXT),
        layouts=(
            (r"text_tower/pos_embedding$", "bare"),
            (r"text_tower/projection/kernel$", "same" if projection == "matrix" else "torch"),
            (".", "torch"),
        ),
        unused=(r"attn_mask$", *CLIP_SIZES),
        lacks=tuple(lacks),
        reasons=(
            (
                r"^visual\.head\.mlp\.",
                "A projection of two layers (timm_proj='mlp') is not among our two_towers' options.",
            ),
            *((behind_trunk(pattern), reason) for pattern, reason in misfits.VIT_REASONS + misfits.CONVNEXT_REASONS),
        ),
        what="a ViT or ConvNeXt of timm, beside a text transformer",
        **rest,
    )


ZEROS = tuple("image_tower/.*" + pattern for pattern in (*TIMM_VIT["zeros"], *CONVNEXT_REST["zeros"]))
VIT_PAIR = (*vit_options(pair=True), (r"^text\.text_projection\.weight$", siglip_text))
CONVNEXT_PAIR = (
    (r"^visual\.trunk\.stages\.", of_trunk(no_layer_scale, pair=True)),
    (r"^visual\.trunk\.stages\.", {"image": dict(CONVNEXT_PROPERTIES["computes"])}),
)
TRUNKS = tuple(
    towers(image, head, *text, options=options, when=when, zeros=ZEROS)
    for image, options, when in (
        (TRUNK_VIT, VIT_PAIR, r"image_tower/embedding/kernel$"),
        (CONVNEXT, CONVNEXT_PAIR, r"image_tower/stage1/block1/depthwise/"),
    )
    for head in HEADS
    for text in TEXTS
)
CLIP = clip(gelu="exact")
OPEN_CLIP = CLIP | {
    "two_towers": (*CLIP["two_towers"], *TRUNKS),
    "vit": (
        *CLIP["vit"],
        torch(*TRUNK_VIT, **(TIMM_VIT | {"options": vit_options(pair=False)}), prefixes=(TRUNK,)),
    ),
    "convnext": (
        torch(
            *CONVNEXT,
            **CONVNEXT_REST,
            **CONVNEXT_PROPERTIES,
            options=((r"^visual\.trunk\.", no_layer_scale),),
            prefixes=(TRUNK,),
        ),
    ),
}
