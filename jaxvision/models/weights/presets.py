"""The preprocessing with which a library measured the accuracy of its weights, as data: see `preprocessing`."""

import math
from typing import Any, NamedTuple

IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALF: dict[str, Any] = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}  # [-1, 1]; "inception" in timm
CLIP: dict[str, Any] = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
BYTES: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1 / 255, 1 / 255, 1 / 255)}  # for networks that take 0 to 255


class Preprocessing(NamedTuple):
    """The preprocessing of images with which a network's accuracy was measured.

    Attributes:
      size: Side of the image that the network sees, in pixels.
      crop: Ratio of `size` to the shorter side of the resized image, from which the centre is cut, in (0, 1].
      interpolation: Filter of the resize, "bilinear" or "bicubic", antialiased.
      mean: Mean of each channel, for images in [0, 1].
      std: Standard deviation of each channel, for images in [0, 1].
      squash: True to resize the whole image to a square, without regard to its aspect ratio and to `crop`.
    """

    size: int = 224
    crop: float = 0.875
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET["mean"]
    std: tuple[float, ...] = IMAGENET["std"]
    squash: bool = False

    @property
    def host(self) -> str:
        """The spec of host operations.

        >>> Preprocessing(crop=0.9, interpolation="bicubic").host
        "decode|resize_short(248, method='bicubic')|central_crop(224)"
        """
        method = "" if self.interpolation == "bilinear" else f", method={self.interpolation!r}"
        if self.squash:
            return f"decode|resize({self.size}{method})"
        return f"decode|resize_short({math.floor(self.size / self.crop)}{method})|central_crop({self.size})"

    @property
    def augment(self) -> str:
        """The spec of augmentation.

        >>> Preprocessing(**HALF).augment
        'normalize(0.5, 0.5)'
        """
        mean, std = (values[0] if len(set(values)) == 1 else tuple(values) for values in (self.mean, self.std))
        return f"normalize({mean}, {std})"


# The usual preprocessing of a library's weights. Single ones differ; then a config next to them, or the user, says so.
PRESETS: dict[tuple[str, str], Preprocessing] = {
    ("timm", "vit"): Preprocessing(crop=0.9, interpolation="bicubic", **HALF),
    ("timm", "resnet"): Preprocessing(crop=0.95, interpolation="bicubic"),
    ("timm", "resnet_v2"): Preprocessing(crop=0.95, interpolation="bicubic", **HALF),
    ("timm", "bit"): Preprocessing(size=448, crop=1.0, **HALF),
    ("timm", "mixer"): Preprocessing(interpolation="bicubic", **HALF),
    ("timm", "resmlp"): Preprocessing(interpolation="bicubic"),
    ("timm", "gmlp"): Preprocessing(interpolation="bicubic", **HALF),
    ("timm", "swin"): Preprocessing(crop=0.9, interpolation="bicubic"),
    ("timm", "swin_v2"): Preprocessing(size=256, crop=0.9, interpolation="bicubic"),
    ("timm", "mvit_v2"): Preprocessing(crop=0.9, interpolation="bicubic"),
    ("timm", "convnext"): Preprocessing(interpolation="bicubic"),
    ("timm", "clip_resnet"): Preprocessing(crop=1.0, interpolation="bicubic", **CLIP),
    ("timm", "vgg"): Preprocessing(),
    ("timm", "inception"): Preprocessing(size=299, interpolation="bicubic", **HALF),
    ("timm", "densenet"): Preprocessing(interpolation="bicubic"),
    ("timm", "senet"): Preprocessing(),
    ("timm", "nasnet"): Preprocessing(size=331, crop=0.911, interpolation="bicubic", **HALF),
    ("timm", "darknet"): Preprocessing(size=256, crop=0.887, interpolation="bicubic"),
    ("timm", "mobilenet_v1"): Preprocessing(interpolation="bicubic", **HALF),
    ("timm", "mobilenet_v2"): Preprocessing(interpolation="bicubic"),
    ("timm", "mobilenet_v3"): Preprocessing(interpolation="bicubic"),
    ("timm", "efficientnet"): Preprocessing(interpolation="bicubic"),
    ("torchvision", "mobilenet_v2"): Preprocessing(),
    ("torchvision", "mobilenet_v3"): Preprocessing(),
    ("torchvision", "efficientnet"): Preprocessing(interpolation="bicubic"),
    ("torchvision", "shufflenet_v2"): Preprocessing(),
    ("torchvision", "alexnet"): Preprocessing(),
    ("torchvision", "vgg"): Preprocessing(),
    ("torchvision", "densenet"): Preprocessing(),
    # The published weights of these two are loaded with transform_input=True, which turns images normalised as
    # ImageNet's into images in [-1, 1]; the networks themselves see the latter.
    ("torchvision", "googlenet"): Preprocessing(**HALF),
    ("torchvision", "inception"): Preprocessing(size=299, crop=299 / 342, **HALF),
    ("torchvision", "vit"): Preprocessing(),
    ("torchvision", "convnext"): Preprocessing(),
    ("open_clip", "convnext"): Preprocessing(crop=1.0, interpolation="bicubic", **CLIP),
    ("torchvision", "resnet"): Preprocessing(),
    ("dino", "vit"): Preprocessing(interpolation="bicubic"),  # eval_linear.py and eval_knn.py
    ("dino", "resnet"): Preprocessing(interpolation="bicubic"),
    ("dinov2", "vit"): Preprocessing(interpolation="bicubic"),  # data/transforms.py
    ("moco", "vit"): Preprocessing(),
    ("moco", "resnet"): Preprocessing(),
    ("big_vision", "vit"): Preprocessing(**HALF),
    ("big_vision", "mixer"): Preprocessing(**HALF),
    ("openai_clip", "vit"): Preprocessing(crop=1.0, interpolation="bicubic", **CLIP),
    ("openai_clip", "clip_resnet"): Preprocessing(crop=1.0, interpolation="bicubic", **CLIP),
    ("open_clip", "vit"): Preprocessing(crop=1.0, interpolation="bicubic", **CLIP),
    ("open_clip", "clip_resnet"): Preprocessing(crop=1.0, interpolation="bicubic", **CLIP),
    ("openai_clip", "two_towers"): Preprocessing(crop=1.0, interpolation="bicubic", **CLIP),
    ("open_clip", "two_towers"): Preprocessing(crop=1.0, interpolation="bicubic", **CLIP),
    ("big_vision", "two_towers"): Preprocessing(squash=True, **HALF),  # SigLIP: "resize(224)|value_range(-1, 1)"
    ("keras", "mlperf_resnet8"): Preprocessing(size=32, crop=1.0, **BYTES),
    ("lenet5", "lenet"): Preprocessing(size=32, crop=1.0, mean=(0.0,), std=(1.0,)),  # one grey channel
    ("bit", "bit"): Preprocessing(size=480, squash=True, **HALF),  # bit_hyperrule.py: the whole image, after tuning
    ("pytorch_resnet_cifar10", "resnet"): Preprocessing(size=32, crop=1.0, **IMAGENET),  # the authors' mean of ImageNet
}
ZERO_ONE = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
UNSTATED = {"mean": None, "std": None}
CROP_232 = {"crop": 0.965}  # 224 of 232 pixels, in torchvision's second training
# Sides and crops of EfficientNet, by the pattern of its name.
TIMM_EFFICIENTNETS = {  # those of the authors, then those of timm's own training
    "b1": (240, 0.882),
    "b2": (260, 0.89),
    "b3": (300, 0.904),
    "b4": (380, 0.922),
    "b5": (456, 0.934),
    "b6": (528, 0.942),
    "b7": (600, 0.949),
    "b8": (672, 0.954),
    "l2": (800, 0.96),
    r"l2\.ns_jft_in1k_475": (475, 0.936),
    r"b1\.ft_": (224, 0.875),
    r"b2\.ra_": (256, 0.875),
    r"b3\.ra2_": (288, 0.875),
    r"b4\.ra2_": (320, 0.875),
    r"b5\.sw_in12k": (416, 0.95),
    r"b5\.sw_in12k_ft_": (448, 1.0),
    r"b0\.ra4_": (224, 0.9),
    r"b1\.ra4_": (240, 0.9),
}
TORCHVISION_EFFICIENTNETS = {
    "b1": (240, 240 / 256),
    "b2": (288, 1.0),
    "b3": (300, 300 / 320),
    "b4": (380, 380 / 384),
    "b5": (456, 1.0),
    "b6": (528, 1.0),
    "b7": (600, 1.0),
}
SIGLIP_384 = (r"^ViT-SO400M-14-SigLIP-384", {"size": 384})
# Exceptions by the library's own name of a network and its weights: (pattern, attributes); later ones win.
# tests/parity/test_properties.py compares mean and std with timm's registry, all with torchvision's.
BY_ARCHITECTURE: dict[tuple[str, str], tuple[tuple[str, dict[str, Any]], ...]] = {
    ("timm", "vit"): (
        (r"^vit_so400m_patch14_siglip_(?:gap_)?384", {"size": 384}),
        (r"_clip_|^aimv2|^eva_large|\.bamboo$|_radio_", CLIP),
        (r"^vit_large_patch14_clip_(?:224|336)\.laion2b(?:_ft|$)", HALF),
        (r"^beit3|^deit|dinov2|\.dino$|\.mae$|ijepa|_intern300m", IMAGENET),
        (r"tipsv2|_miil", ZERO_ONE),
    ),
    ("timm", "convnext"): ((r"\.clip_|_large_mlp|_xxlarge", CLIP), (r"_zepto|^test_", HALF)),
    ("timm", "resnet"): ((r"\.ra4_e3600|^test_", HALF),),
    ("timm", "inception"): (
        (r"^inception_resnet_v2", {"crop": 0.8975}),
        (r"^(?:gluon_inception_v3|inception_v3\.gluon)", IMAGENET),
    ),
    ("timm", "mobilenet_v1"): ((r"^mobilenetv1_125", {"crop": 0.9}),),
    ("timm", "mobilenet_v3"): (
        (r"^tf_", {"interpolation": "bilinear", **HALF}),
        (r"\.miil_", {"interpolation": "bilinear", **ZERO_ONE}),
        (r"\.ra4_", {"crop": 0.95, **HALF}),
    ),
    ("timm", "efficientnet"): (
        *[(f"^(?:tf_)?efficientnet_{x}", {"size": n, "crop": crop}) for x, (n, crop) in TIMM_EFFICIENTNETS.items()],
        (r"\.(?:ap|ra4_e3600_r\d+)_in1k", HALF),
        (r"\.sw_in12k_ft_", {"squash": True}),
    ),
    ("torchvision", "mobilenet_v2"): ((r"IMAGENET1K_V2$", CROP_232),),
    ("torchvision", "mobilenet_v3"): ((r"IMAGENET1K_V2$", CROP_232),),
    ("torchvision", "shufflenet_v2"): ((r"^shufflenet_v2_x(?:1_5|2_0)", CROP_232),),
    ("torchvision", "efficientnet"): (
        *[(f"^efficientnet_{x}", {"size": n, "crop": crop}) for x, (n, crop) in TORCHVISION_EFFICIENTNETS.items()],
        (r"^efficientnet_b1\.IMAGENET1K_V2$", {"crop": 240 / 255, "interpolation": "bilinear"}),
    ),
    ("timm", "senet"): ((r"^senet154", {"interpolation": "bicubic"}),),
    ("torchvision", "vgg"): (
        (r"IMAGENET1K_FEATURES$", {"mean": (0.48235, 0.45882, 0.40784), "std": (1 / 255, 1 / 255, 1 / 255)}),
    ),
    ("timm", "mixer"): ((r"\.miil", ZERO_ONE), (r"^resmlp|^gmixer", IMAGENET)),
    ("open_clip", "vit"): (SIGLIP_384,),
    ("open_clip", "two_towers"): (SIGLIP_384,),
    ("torchvision", "resnet"): ((r"IMAGENET1K_V2$|^(?:ResNeXt101_64X4D|resnext101_64x4d)", {"crop": 0.965}),),
    ("torchvision", "vit"): (
        (r"(?i)^vit_l_16(?:_Weights)?\.IMAGENET1K_V1$", {"crop": 0.925}),
        (r"SWAG_", {"crop": 1.0, "interpolation": "bicubic"}),
    ),
}
# Exceptions by names in the file. Among open_clip's ViTs of timm, only SigLIP's pool by attention.
SIGLIP = (r"^visual\.trunk\.attn_pool\.", {**HALF, "squash": True})
BY_NAMES: dict[tuple[str, str], tuple[tuple[str, dict[str, Any]], ...]] = {
    ("open_clip", "vit"): (SIGLIP,),
    ("open_clip", "two_towers"): (SIGLIP,),
    ("timm", "vit"): ((r"^norm_pre\.", CLIP), (r"^dist_token$|^mask_token$", IMAGENET)),
    # With projections, other collections have the same names and prepare images in other ways.
    ("pytorch_resnet_cifar10", "resnet"): ((r"\.shortcut\.0\.", UNSTATED),),
}
