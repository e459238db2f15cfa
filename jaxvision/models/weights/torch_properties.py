"""Properties of networks of torch's libraries that no array of their files shows, as data; see `properties`.

tests/parity/test_properties.py asks timm, torchvision and open_clip themselves.
"""

from typing import Any

VIT_PROPERTIES: dict[str, Any] = {
    "computes": {"norm_epsilon": 1e-6},
    "assumed": ("gelu", "num_heads"),
    "architectures": (
        (r"_clip_", {"norm_epsilon": 1e-5}),
        (r"_quickgelu_", {"gelu": "quick"}),
        (r"^vit_(?:base_patch32|so400m_patch16|giantopt_patch16)_siglip_", {"gelu": "tanh"}),
        (r"^vit_large_patch16_siglip_(?:gap_)?512", {"gelu": "tanh"}),
        (r"^vit_base_patch16_gap_224", {"num_heads": 16}),
        (r"_rpn_", {"norm": "behind each branch"}),
    ),
}
RESNET_PROPERTIES: dict[str, Any] = {
    # He et al. 2016's stride is in the first 1x1; torchvision and timm have it in the 3x3 (v1.5).
    "computes": {"norm_epsilon": 1e-5, "stride_in": "3x3", "padding": "both sides", "antialias": "none"},
    # Without the name of a projection, nothing shows where the zero channels are: the user must say it.
    "options": (
        (r"\.downsample\.0\.", {"shortcut": "B"}),
        (r"\.downsample\.2\.", {"shortcut": "D"}),
        (r"layer1\.1\.downsample\.", {"shortcut": "C"}),
    ),
}
TIMM_RESNET_PROPERTIES: dict[str, Any] = RESNET_PROPERTIES | {
    "assumed": ("antialias",),
    "architectures": (
        (r"^(?:se)?resne(?:t|xt)aa\d", {"antialias": "average"}),
        (r"^resnetblur\d", {"antialias": "blur"}),
    ),
}
RESNET_V2_PROPERTIES: dict[str, Any] = {
    "computes": {
        "norm_epsilon": 1e-5,
        "stride_in": "3x3",
        "padding": "both sides",
        "antialias": "none",
        "pool_padding": "ignored",
    }
}
BIT_PROPERTIES: dict[str, Any] = {
    "computes": RESNET_V2_PROPERTIES["computes"]
    | {"pool_padding": "zeros", "groups": 32, "standardize_epsilon": 1e-8}  # 1e-10 in the authors' code
}
CONVNEXT_PROPERTIES: dict[str, Any] = {
    "computes": {"norm_epsilon": 1e-6, "gelu": "exact"},
    "assumed": ("norm_epsilon", "gelu"),
    "architectures": (
        (r"^convnext_xxlarge|^test_convnext", {"norm_epsilon": 1e-5}),
        (r"^test_convnext2?(?:\.|$)", {"gelu": "tanh"}),
    ),
}
CLIP_VIT_OPTIONS = {"posemb": "learned", "pool": "token", "pre_norm": True, "patch_bias": False, "norm_epsilon": 1e-5}
CLIP_TEXT_COMPUTES = {"norm_epsilon": 1e-5, "causal": True, "pool": "end", "end_token": None}
CLIP_RESNET_COMPUTES = {"norm_epsilon": 1e-5, "antialias": "average", "head_width": 64}
# open_clip's own names of networks, with the tag of the weights behind a slash. Its quick GELUs are OpenAI's networks
# and those that began from their code; `open_clip.pretrained` lists them.
QUICK_GELU = (
    r"(?i)quickgelu|/(?:openai|dfn2b|dfn5b|metaclip_400m|metaclip_fullcc|yfcc15m|cc12m)$|^ViT-B-32/laion400m"
    r"|^ViT-H-14-worldwide/metaclip2"
)


def clip_properties(part: str, gelu: str) -> dict[str, Any]:
    """Returns the properties of CLIP's networks that no array shows, as fields of a `Table`.

    Args:
      part: Part of the model: "vit", "text", or "" for both towers.
      gelu: Form of the GELU that the library usually has: "quick" for OpenAI, "exact" for open_clip.
    """
    towers = {"vit": ("image.",), "text": ("text.",), "": ("image.", "text.")}[part]
    computes = {f"text.{name}": value for name, value in CLIP_TEXT_COMPUTES.items()} | {"image.norm_epsilon": 1e-5}
    computes |= {"image.head_width": 64, "text.head_width": 64} if gelu == "quick" else {}
    computes |= {"image.antialias": "average"} if not part else {}  # only ResNets have it
    mine = lambda values: {k if not part else k.partition(".")[2]: v for k, v in values.items() if k.startswith(towers)}
    properties: dict[str, Any] = {"computes": mine(computes)}
    if gelu != "quick":
        properties["assumed"] = tuple(mine({"image.gelu": 0, "text.gelu": 0}))
        rows = {
            QUICK_GELU: {"image.gelu": "quick", "text.gelu": "quick"},
            r"-CLIPA": {"image.norm": "behind the mean of the tokens", "text.pool": "last", "text.causal": False},
            r"-worldwide": {"text.end_token": 2},
            # Models with an image tower of timm: its vit_base_patch32_siglip_256, ... have the approximation.
            r"^ViT-(?:B-32|SO400M-16|gopt-16|L-16)-SigLIP(?:2-512)?": {"image.gelu": "tanh"},
            r"^ViT-L-16-SigLIP2?-(?:256|384)": {"image.gelu": "exact"},
            r"^convnext_xxlarge": {"image.norm_epsilon": 1e-5},
        }
        properties["architectures"] = tuple((pattern, mine(values)) for pattern, values in rows.items())
    return properties
