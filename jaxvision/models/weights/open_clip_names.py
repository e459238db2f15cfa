"""Names of open_clip's models: CLIP's as OpenAI wrote it, and models with a tower of timm (`visual.trunk.`): SigLIP."""

from typing import Any

import numpy as np

from jaxvision.models.weights import misfits
from jaxvision.models.weights.clip_names import CLIP_SIZES, CLIP_TEXT, PAIR_LACKS, clip_tables
from jaxvision.models.weights.table import Rules, Table, within
from jaxvision.models.weights.torch_names import (
    CONVNEXT,
    CONVNEXT_REST,
    TIMM_VIT,
    VIT,
    VIT_BLOCK,
    VIT_OPTIONS,
    no_layer_scale,
    torch_table,
)
from jaxvision.models.weights.torch_properties import CONVNEXT_PROPERTIES

TRUNK = "visual.trunk."
TRUNK_VIT: Rules = (*VIT, *VIT_BLOCK)
HEADS = ("visual/head/proj/", "visual/trunk/head/")  # the image projection: a layer after timm's tower, or its head
TEXTS = (  # (prefix of the text tower's names, form of its projection)
    ("", "matrix"),
    ("text/", "layer"),
    ("text/", "matrix"),
)
# Options of timm's ViT that replace CLIP's, which the first table of open_clip's ViTs sets.
TRUNK_DEFAULTS = {"pre_norm": False, "patch_bias": True, "norm_epsilon": 1e-6}


SIGLIP_2_WORDS = 256_000
# Image towers of SigLIP 2 whose GELU is timm's approximation by tanh: (width, side of a patch, number of patches, 0 for
# any). They are B/32, So400m/16, g-opt/16, and L/16 at 512 pixels only.
SIGLIP_2_TANH = ((768, 32, 0), (1152, 16, 0), (1536, 16, 0), (1024, 16, 1024))


def siglip_text(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns options of SigLIP's text tower: exact GELU in SigLIP and its multilingual model, tanh in SigLIP 2.

    Args:
      arrays: Arrays of the file by name.
    """
    words, length = len(arrays["text.token_embedding.weight"]), len(arrays["text.positional_embedding"])
    options = {"vocab_size": words, "length": length, "gelu": "tanh" if words == SIGLIP_2_WORDS else "exact"}
    return {"text": options | {"causal": False, "pool": "last", "end_token": None, "norm_epsilon": 1e-6}}


def siglip_image(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Returns the GELU of SigLIP 2's image tower as an option, and no option for other weights.

    Args:
      arrays: Arrays of the file by name.
    """
    kernel, positions = (arrays.get(TRUNK + name) for name in ("patch_embed.proj.weight", "pos_embed"))
    words = arrays.get("text.token_embedding.weight")
    if kernel is None or positions is None or words is None or len(words) != SIGLIP_2_WORDS:
        return {}
    width, patch, n = kernel.shape[0], kernel.shape[-1], positions.shape[-2]
    return {"gelu": "tanh" if {(width, patch, 0), (width, patch, n)} & set(SIGLIP_2_TANH) else "exact"}


def trunk_options(options: dict[str, Any] | Any, pair: bool) -> Any:
    """Turns options of a ViT into options of the image tower of a pair.

    Args:
      options: Options by name, or a function from the file's arrays to them.
      pair: True for a pair; False returns the options unchanged.
    """
    if not pair:
        return options
    return (lambda arrays: {"image": options(arrays)}) if callable(options) else {"image": options}


def after_trunk(pattern: str) -> str:
    """Turns a pattern of timm's names into a pattern of the names after `visual.trunk.`.

    Args:
      pattern: Regular expression.
    """
    return pattern.replace("^", r"^visual\.trunk\.")


def vit_options(pair: bool) -> tuple:
    """Returns timm's options of a ViT for names after `visual.trunk.`, as `Table.options`.

    Args:
      pair: True for the image tower of a pair, False for a ViT by itself.
    """
    every = r"^visual\.trunk\.patch_embed\."
    rows: list[tuple[str, Any]] = [(every, TRUNK_DEFAULTS)]
    rows += [(every if pattern == "." else after_trunk(pattern), options) for pattern, options in VIT_OPTIONS]
    rows.append((after_trunk(r"^attn_pool\."), siglip_image))
    return tuple((pattern, trunk_options(options, pair)) for pattern, options in rows)


def trunk_towers(image: Rules, head: str, text: str, projection: str, **rest: Any) -> Table:
    """Makes a table of two towers whose image tower is timm's.

    Args:
      image: Rules of the image tower.
      head: Name of the image projection in the file.
      text: Prefix of the text tower's names.
      projection: Form of the text projection in the file, "layer" or "matrix".
      **rest: Further fields of the `Table`.
    """
    texts = (
        (r"^text_tower/projection/kernel$", f"{text}text_projection")
        if projection == "matrix"
        else (r"^text_tower/projection/", f"{text}text_projection/")
    )
    lacks = [PAIR_LACKS[1]] + ([(r"text_tower/projection/bias$", PAIR_LACKS[0][1])] if projection == "matrix" else [])
    return torch_table(
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
            *((after_trunk(pattern), reason) for pattern, reason in misfits.VIT_REASONS + misfits.CONVNEXT_REASONS),
        ),
        what="a ViT or ConvNeXt of timm, with a text transformer",
        **rest,
    )


ZEROS = tuple("image_tower/.*" + pattern for pattern in (*TIMM_VIT["zeros"], *CONVNEXT_REST["zeros"]))
VIT_PAIR = (*vit_options(pair=True), (r"^text\.text_projection\.weight$", siglip_text))
CONVNEXT_PAIR = (
    (r"^visual\.trunk\.stages\.", trunk_options(no_layer_scale, pair=True)),
    (r"^visual\.trunk\.stages\.", {"image": dict(CONVNEXT_PROPERTIES["computes"])}),
)
TRUNKS = tuple(
    trunk_towers(image, head, *text, options=options, when=when, zeros=ZEROS)
    for image, options, when in (
        (TRUNK_VIT, VIT_PAIR, r"image_tower/embedding/kernel$"),
        (CONVNEXT, CONVNEXT_PAIR, r"image_tower/stage1/block1/depthwise/"),
    )
    for head in HEADS
    for text in TEXTS
)
CLIP = clip_tables(gelu="exact")
OPEN_CLIP = CLIP | {
    "two_towers": (*CLIP["two_towers"], *TRUNKS),
    "vit": (
        *CLIP["vit"],
        torch_table(*TRUNK_VIT, **(TIMM_VIT | {"options": vit_options(pair=False)}), prefixes=(TRUNK,)),
    ),
    "convnext": (
        torch_table(
            *CONVNEXT,
            **CONVNEXT_REST,
            **CONVNEXT_PROPERTIES,
            options=((r"^visual\.trunk\.", no_layer_scale),),
            prefixes=(TRUNK,),
        ),
    ),
}
