"""Words for errors about known differences: parts that layouts have no names for, and reasons why files do not fit."""

_VIT_PARTS = {  # words for a part of our ViT -> pattern of its paths
    "attention and MLP side by side (parallel='mlp')": r"/block_\d+/(?:norm|branch_scale)/",
    "two attentions side by side (parallel='pairs')": r"/attention_2/",
    "a representation layer (rep_size)": r"/pre_logits/",
    "a distillation token": r"distillation_",
    "registers": r"/registers$",
    "a norm before the first block (pre_norm)": r"/pre_norm/",
    "layer scale": r"/(?:attention|mlp)_scale",
    "norms of queries and keys (qk_norm)": r"/query_norm/",
    "attention pooling (pool='map')": r"/pool/probe$",
    "a norm of the pooled features (fc_norm)": r"/fc_norm/",
    "a bias of the patch embedding (patch_bias)": r"(?<!text_tower)/embedding/bias$",
}
PROJECTION = (r"^(?:params|batch_stats)/projection/", "a projection head")


def vit_lacks(*parts: str) -> tuple[tuple[str, str], ...]:
    """Makes `Table.lacks` of a ViT.

    Args:
      *parts: Words, or pieces of them, for the parts of our ViT that a layout has no names for.

    Returns:
      Pairs (pattern of our paths, words for the part); a projection head is always among them.
    """
    lacks = [(pattern, what) for what, pattern in _VIT_PARTS.items() if any(part in what for part in parts)]
    return (PROJECTION, *lacks)


TIMM_VIT = vit_lacks("parallel='mlp'", "rep_size")
TORCHVISION_VIT = vit_lacks(*[what for what in _VIT_PARTS if "patch_bias" not in what])
CLIP_VIT = vit_lacks(*[what for what in _VIT_PARTS if "pre_norm" not in what])
BIG_VISION_VIT = vit_lacks(
    *[what for what in _VIT_PARTS if not any(x in what for x in ("rep_size", "map", "patch_bias"))]
)
TORCHVISION_RESNET = (PROJECTION, (r"/stem_conv\d/", "a deep stem"), (r"/se/", "squeeze and excitation"))

VIT_REASONS = (
    (
        r"^(?:cls_token|class_token)$",
        "A class token goes with pool='token', or with class_token=True and another pool.",
    ),
    (
        r"^pos_embed$",
        "Positions go with posemb='learned', the class token's with cls_position=True; registers have none.",
    ),
    (r"^(?:fc_)?norm\.weight$", "A final norm is needed: of the tokens, or, with fc_norm=True, of pooled features."),
    (r"^reg_token$", "Registers go with registers=NUMBER."),
    (r"^(?:dist_token|head_dist\.)", "A distillation token goes with distilled=True."),
    (r"^norm_pre\.", "A norm before the first block goes with pre_norm=True."),
    (r"\.ls[12]\.gamma$", "Layer scale goes with layer_scale=NUMBER."),
    (r"\.[qk]_norm\.", "Norms of queries and keys go with qk_norm=True."),
    (r"^attn_pool\.", "Attention pooling goes with pool='map'."),
    (r"\.(?:attns|ffns)\.", "Two attentions and two MLPs side by side go with parallel='pairs'."),
    (
        r"\.in_proj\.|\.mlp_out_proj\.",
        "timm's ParallelScalingBlock fuses MLP and attention in one array and is not read.",
    ),
    (r"rel_pos|relative_position", "Relative positions are not among the options of our ViT."),
    (r"\.mlp\.(?:fc1_[gx]|w\d+|norm)\.", "Gated and normalised MLPs are not among the options of our ViT."),
    (r"\.attn\.norm\.", "A norm inside the attention is not among the options of our ViT."),
    (r"\.gamma_[12]$|\.attn\.[qv]_bias$", "BEiT's blocks are not among the options of our ViT."),
    (r"^patch_embed\.(?:backbone|proj\.\d|conv|norm)", "A convolutional stem is not among the options of our ViT."),
)
MIXER_REASONS = (
    (r"\.linear_tokens\.|\.ls[12]$", "ResMLP's blocks are not those of our Mixer."),
    (r"\.gate\.|\.mlp_\w+\.(?:fc1|fc2)\.weight$", "Gated MLPs are not among the options of our Mixer."),
)
CONVNEXT_REASONS = (
    (r"\.grn\.", "The response normalisation of ConvNeXt V2 is not among the options of our ConvNeXt."),
    (r"^norm_pre\.", "A norm before the pooling (head_norm_first) is not among the options of our ConvNeXt."),
    (r"^head\.pre_logits\.", "A hidden layer in the head is not among the options of our ConvNeXt."),
    (r"^stem\.[2-9]\.|^stages\.0\.downsample\.", "A stem of another kind is not among the options of our ConvNeXt."),
    (r"\.gamma$|\.layer_scale$", "Weights without layer scale go with layer_scale=None."),
    (r"\.\d+\.norm\.bias$", "Norms without a bias (RMSNorm) are not among the options of our ConvNeXt."),
    (r"\.conv_dw\.weight$", "Other kernels than 7x7 are not among the options of our ConvNeXt."),
)
RESNET_REASONS = (
    (r"^layer0\.", "The layout of Cadene's legacy SE-ResNets is not read."),
    (r"^conv1\.\d\.|^maxpool\.", "The only deep stem that is read is ResNet-D's: the variants '50d' and the like."),
    (r"\.downsample\.[0-2]\.", "Stem and shortcuts are read if both are plain or both are ResNet-D's."),
    (r"\.se\.fc", "Squeeze and excitation goes with the variants 'se50' and the like, or squeeze_excite=16."),
    (r"\.se\.conv|\.attn\.|\.conv2\.(?:conv|fc|paths)", "Attention other than squeeze and excitation is not read."),
    (r"^bn1\.running_mean$", "Norms without running statistics are those of the model 'bit', not of 'resnet'."),
)
RESNET_V2_REASONS = (
    (r"^stem\.conv\d\.", "A deep stem (resnetv2_50d) is not among the options of our ResNet v2."),
    (r"^norm\.running_mean$", "'resnet_v2' has BatchNorm, 'bit' has GroupNorm with weight standardisation."),
)
MVIT_REASONS = (
    (r"\.rel_pos_[hw]$", "Relative positions for images of another size go with pretrained_size=SIDE of those images."),
    (r"^cls_token$", "A class token is not among the options of our MViT v2."),
    (
        r"\.shortcut_proj_mlp\.",
        "Channels that change in the MLP (mvitv2_large) are no option of our MViT v2.",
    ),
)
MOBILE_REASONS = (
    (r"\.bn1\.running_mean$", "Norms without running statistics are not among the options of our mobile nets."),
    (r"\.se\.conv_reduce\.", "Weights without squeeze and excitation (lite, minimal) are not read."),
)
MOBILENET_V1_HEAD = (
    r"^conv_head\.",
    "A convolution behind the last stage (mobilenetv1_100h) is not among the options of our MobileNet v1.",
)
MOBILENET_V3_RW = (r"^conv_head\.bias$", "A hidden layer without bias (mobilenetv3_rw) is not among our options.")
