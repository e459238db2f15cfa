"""Names of big_vision, AugReg, MLP-Mixer's and BiT's releases, and of Keras: layouts like ours, [in, out]."""

from jaxvision.models.weights import misfits
from jaxvision.models.weights.table import COLLECTION, Rules, Table, below

NORMS = {"norm_epsilon": 1e-6}  # Linen's
SAME: Rules = ((".", "same"),)
PREFIXES = ("", "params/", "params/img/", "opt/target/")
SCANNED = (r"(?<=/)encoderblock/", "encoderblock_{}/")
VIT_OPTIONS = (
    (r".", {"posemb": "sincos2d", "pool": "gap", "gelu": "tanh"}),  # Linen's GELU is the approximation
    (r"(?:^|/)pos_embedding$", {"posemb": "learned"}),
    (r"(?:^|/)cls$", {"pool": "token"}),
    (r"(?:^|/)MAPHead_0/", {"pool": "map"}),
)


def vit_rules(attention: str, norm: str, mlp: str, positions: str) -> Rules:
    """Makes the rules of a ViT. big_vision and AugReg number the modules of a block differently.

    Args:
      attention: Name of a block's attention in the file.
      norm: Name of the norm before the MLP.
      mlp: Name of the MLP.
      positions: Name of the position embeddings.
    """
    return (
        (r"^pos_embedding$", positions),
        (r"^encoder/norm/", "Transformer/encoder_norm/"),
        (r"^encoder/block_0?(\d+)/", "Transformer/encoderblock_{1}/"),
        (r"^pool/attention/", "MAPHead_0/MultiHeadDotProductAttention_0/"),
        (r"^pool/norm/", "MAPHead_0/LayerNorm_0/"),
        (r"^pool/mlp/dense_(\d)/", "MAPHead_0/MlpBlock_0/Dense_{1}/"),
        (r"^pool/", "MAPHead_0/"),
        (r"/attention_norm/", "/LayerNorm_0/"),
        (r"/mlp_norm/", f"/{norm}/"),
        (r"/attention/", f"/{attention}/"),
        (r"/mlp/dense_(\d)/", f"/{mlp}/Dense_{{1}}/"),
    )


def vit_table(*names: str) -> Table:
    """Makes the table of a ViT by itself.

    Args:
      *names: Names in the file, the arguments of `vit_rules`.
    """
    return Table(
        (COLLECTION, *vit_rules(*names)),
        SAME,
        prefixes=PREFIXES,
        scanned=SCANNED,
        options=VIT_OPTIONS,
        lacks=misfits.BIG_VISION_VIT,
        computes=NORMS,
    )


MIXER: Rules = (
    COLLECTION,
    (r"^embedding/", "stem/"),
    (r"^encoder/norm/", "pre_head_layer_norm/"),
    (r"^encoder/block_0?(\d+)/", "MixerBlock_{1}/"),
    (r"/token_norm/", "/LayerNorm_0/"),
    (r"/channel_norm/", "/LayerNorm_1/"),
    (r"/(token|channel)_mlp/dense_(\d)/", "/{1}_mixing/Dense_{2}/"),
)
BIT_RELEASE: Rules = (
    COLLECTION,
    (r"^stem_conv/", "root_block/standardized_conv2d/"),
    (r"^stage(\d+)/block(\d+)/", "block{1}/unit{2:02}/"),
    (r"/shortcut_conv/", "/a/proj/standardized_conv2d/"),
    (r"/conv1/", "/a/standardized_conv2d/"),
    (r"/conv2/", "/b/standardized_conv2d/"),
    (r"/conv3/", "/c/standardized_conv2d/"),
    (r"/norm1/", "/a/group_norm/"),
    (r"/norm2/", "/b/group_norm/"),
    (r"/norm3/", "/c/group_norm/"),
    (r"^norm/", "group_norm/"),
    (r"^head/", "head/conv2d/"),
    (r"scale$", "gamma"),
    (r"group_norm/bias$", "group_norm/beta"),
)
KERAS_RESNET8: Rules = (  # Keras numbers layers in the order in which they were made
    COLLECTION,
    (r"^stem_conv/", "conv2d/"),
    (r"^stage1/conv(\d)/", "conv2d_{1}/"),
    (r"^stage2/conv(\d)/", "conv2d_{1+2}/"),
    (r"^stage2/shortcut_conv/", "conv2d_5/"),
    (r"^stage3/conv(\d)/", "conv2d_{1+5}/"),
    (r"^stage3/shortcut_conv/", "conv2d_8/"),
    (r"^stem_norm/", "batch_normalization/"),
    (r"^stage1/norm(\d)/", "batch_normalization_{1}/"),
    (r"^stage2/norm(\d)/", "batch_normalization_{1+2}/"),
    (r"^stage3/norm(\d)/", "batch_normalization_{1+4}/"),
    (r"(normalization.*)/bias$", "{1}/beta"),
    (r"scale$", "gamma"),
    (r"mean$", "moving_mean"),
    (r"var$", "moving_variance"),
    (r"^head/", "dense/"),
)
BLOCK = ("MultiHeadDotProductAttention_0", "LayerNorm_1", "MlpBlock_0", "pos_embedding")
TEXT: Rules = (
    (r"^embedding/", "Embed_0/"),
    (r"^encoder/norm/", "Encoder_0/encoder_norm/"),
    (r"^encoder/block_0?(\d+)/", "Encoder_0/encoderblock_{1}/"),
    *vit_rules(*BLOCK),
)
TEXT_OPTIONS = {"vocab_size": 32_000, "length": 64, "causal": False, "pool": "last", "gelu": "tanh"}
TEXT_OPTIONS |= {"norm_epsilon": 1e-6, "init": "xavier"}
SIGLIP: Rules = (
    COLLECTION,
    (r"^text_tower/projection/", "txt/head/"),
    (r"^logit_scale$", "t"),
    (r"^logit_bias$", "b"),
    *below("text_tower/", "txt/", TEXT),
    *below("image_tower/", "img/", vit_rules(*BLOCK)),
    (r"^image_tower/", "img/"),
)
SIGLIP_COMPUTES = {"image.gelu": "tanh", "image.norm_epsilon": 1e-6, "image.posemb": "learned", "text.end_token": None}
SIGLIP_COMPUTES |= {f"text.{name}": TEXT_OPTIONS[name] for name in ("causal", "pool", "gelu", "norm_epsilon")}
BIG_VISION = {
    "vit": (
        vit_table(*BLOCK),
        vit_table(  # AugReg and the first release
            "MultiHeadDotProductAttention_1",
            "LayerNorm_2",
            "MlpBlock_3",
            "Transformer/posembed_input/pos_embedding",
        ),
    ),
    "mixer": (Table(MIXER, SAME, prefixes=PREFIXES, computes=NORMS | {"gelu": "tanh"}),),
    "text_transformer": (
        Table(
            (COLLECTION, *TEXT),
            SAME,
            unused=(r"^head/",),
            prefixes=("", "params/", "params/txt/"),
            scanned=SCANNED,
            options=((r".", TEXT_OPTIONS),),
            computes={"end_token": None},
            positions_of_grid=False,
        ),
    ),
    "two_towers": (
        Table(
            SIGLIP,
            ((r"/logit_(?:scale|bias)$", "one"), *SAME),
            prefixes=("", "params/"),
            scanned=SCANNED,
            computes=SIGLIP_COMPUTES,
        ),
    ),
}
BIT_COMPUTES = {
    "norm_epsilon": 1e-5,
    "groups": 32,
    "standardize_epsilon": 1e-10,
    "stride_in": "3x3",
    "padding": "both sides",
    "pool_padding": "zeros",
    "antialias": "none",
}
BIT_LAYOUTS: Rules = ((r"^params/head/kernel$", "tf_1x1"), *SAME)
BIT = {"bit": (Table(BIT_RELEASE, BIT_LAYOUTS, prefixes=("resnet/", ""), computes=BIT_COMPUTES),)}
KERAS = {"mlperf_resnet8": (Table(KERAS_RESNET8, SAME, computes={"norm_epsilon": 1e-3, "padding": "SAME"}),)}
