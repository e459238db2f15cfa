"""Names of OpenAI's CLIP, which open_clip took over: tables of each tower, and of both towers in one file."""

from jaxvision.models.weights import misfits
from jaxvision.models.weights.table import Rules, Table, below
from jaxvision.models.weights.torch_names import BARE, RESNET, torch_table
from jaxvision.models.weights.torch_properties import CLIP_RESNET_COMPUTES, CLIP_VIT_OPTIONS, clip_properties

CLIP_BLOCKS: Rules = (
    (r"^(?:encoder/)?block_0?(\d+)/", "transformer/resblocks/{1}/"),
    (r"/attention_norm/", "/ln_1/"),
    (r"/mlp_norm/", "/ln_2/"),
    (r"/attention/(?:query|key|value)/kernel$", "/attn/in_proj_weight"),
    (r"/attention/(?:query|key|value)/bias$", "/attn/in_proj_bias"),
    (r"/attention/out/", "/attn/out_proj/"),
    (r"/dense_0/", "/c_fc/"),
    (r"/dense_1/", "/c_proj/"),
)
CLIP_VIT: Rules = (
    (r"^pos_embedding$", "positional_embedding"),
    (r"^cls$", "class_embedding"),
    (r"^embedding/", "conv1/"),
    (r"^pre_norm/", "ln_pre/"),
    (r"^encoder/norm/", "ln_post/"),
    *CLIP_BLOCKS,
)
CLIP_TEXT: Rules = (
    (r"^pos_embedding$", "positional_embedding"),
    (r"^embedding/embedding$", "token_embedding/weight"),
    (r"^encoder/norm/", "ln_final/"),
    *CLIP_BLOCKS,
)
CLIP_RESNET: Rules = (
    (r"^stem_conv(\d)/", "conv{1}/"),
    (r"^stem_norm(\d)/", "bn{1}/"),
    (r"^pool/pos_embedding$", "attnpool/positional_embedding"),
    (r"^pool/attention/(.)(?:uery|ey|alue)/", "attnpool/{1}_proj/"),
    (r"^pool/attention/out/", "attnpool/c_proj/"),
    *RESNET,
)
CLIP_SIZES = (r"^(?:input_resolution|context_length|vocab_size)$",)
PAIR_LACKS = (
    (r"_tower/projection/bias$", "a projection with a bias"),
    (r"text_tower/pool/", "attention pooling of texts"),
)
CLIP_SCALARS = (r"^logit_(?:scale|bias)$", *CLIP_SIZES)


def clip_tables(gelu: str) -> dict[str, tuple[Table, ...]]:
    """Makes the tables of CLIP's towers, and of both towers with their projections.

    Args:
      gelu: Form of the GELU that the library usually has, "quick" or "exact".

    Returns:
      Tables by the names of our models.
    """
    vit_options = ((r".", CLIP_VIT_OPTIONS | {"gelu": gelu}),)
    text_unused = (r"^visual\.", r"^text_projection$", r"attn_mask$", *CLIP_SCALARS)
    return {
        "vit": (
            torch_table(
                *CLIP_VIT,
                layouts=BARE,
                unused=(r"^proj$",),
                prefixes=("visual.", ""),
                options=vit_options,
                lacks=misfits.CLIP_VIT,
                **clip_properties("vit", gelu),
            ),
        ),
        "clip_resnet": (
            torch_table(*CLIP_RESNET, layouts=BARE, prefixes=("visual.", ""), computes=CLIP_RESNET_COMPUTES),
        ),
        "text_transformer": (
            torch_table(
                *CLIP_TEXT,
                layouts=BARE,
                unused=text_unused,
                prefixes=("", "text."),
                options=((r".", {"gelu": gelu}),),
                positions_of_grid=False,
                **clip_properties("text", gelu),
            ),
        ),
        "two_towers": tuple(
            clip_towers(gelu, image, text) for image in (CLIP_VIT, CLIP_RESNET) for text in ("", "text/")
        ),
    }


def clip_towers(gelu: str, image: Rules, text: str) -> Table:
    """Makes the table of both towers in one file.

    Args:
      gelu: Form of the GELU that the library usually has, "quick" or "exact".
      image: Rules of the image tower.
      text: Prefix of the text tower's names: "", or "text/" in open_clip's `CustomTextCLIP`.
    """
    same_gelu = {"text": {"gelu": gelu}}
    vit = CLIP_VIT_OPTIONS | {"gelu": gelu}
    return torch_table(
        (r"^image_tower/projection/kernel$", "visual/proj"),
        (r"^text_tower/projection/kernel$", f"{text}text_projection"),
        *below("image_tower/", "visual/", image),
        *below("text_tower/", text, CLIP_TEXT),
        layouts=((r"/projection/kernel$|/logit_scale$", "same"), *BARE),
        unused=(r"attn_mask$", *CLIP_SIZES),
        options=((r".", same_gelu), (r"^visual\.class_embedding$", {"image": vit})),
        **clip_properties("", gelu),
        when=r"image_tower/cls$" if image is CLIP_VIT else r"image_tower/stem_conv1/",
        lacks=(*PAIR_LACKS, *(misfits.CLIP_VIT if image is CLIP_VIT else ())),
        what="a ViT with a class token or a CLIP ResNet, with a text transformer",
    )
