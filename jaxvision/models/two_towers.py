"""Two towers, one for images and one for texts, that embed both in one space.

CLIP: Radford et al. 2021, arXiv 2103.00020. SigLIP: Zhai et al. 2023, arXiv 2303.15343.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision import models, own_modules
from jaxvision.arguments import Section
from jaxvision.errors import UserError, unknown
from jaxvision.models.options import one_of, positive
from jaxvision.models.order import Groups
from jaxvision.registry import part

TOWERS = ("image_tower", "text_tower")
PROJECTIONS = ("linear", "affine", "none")


class Variant(NamedTuple):
    """A published model: the options of `two_towers` with which it was trained.

    Attributes:
      image: Section of the image tower.
      text: Section of the text tower.
      embedding: Dimension of the projections.
      image_projection: Kind of the projection of images.
      text_projection: Kind of the projection of texts.
      scale: Initial factor of cosines.
      bias: Initial value that is added to scaled cosines, a number, "batch" or None.
    """

    image: Mapping[str, Any]
    text: Mapping[str, Any]
    embedding: int
    image_projection: str = "linear"
    text_projection: str = "linear"
    scale: float = 1 / 0.07
    bias: float | str | None = None


def _clip(
    image: Mapping[str, Any], text: str, embedding: int, image_projection: str = "linear", **text_options: int
) -> Variant:
    return Variant(image, dict(name="text_transformer", variant=text, **text_options), embedding, image_projection)


def _clip_resnet(variant: str, text: str, embedding: int, **text_options: int) -> Variant:
    return _clip(dict(name="clip_resnet", variant=variant), text, embedding, "none", **text_options)


def _clip_vit(variant: str) -> dict[str, Any]:
    options = dict(pool="token", posemb="learned", pre_norm=True, patch_bias=False, gelu="quick", norm_epsilon=1e-5)
    return dict(name="vit", variant=variant, **options)


SIGLIP_TEXT = dict(vocab_size=32_000, length=64, causal=False, pool="last", gelu="tanh", norm_epsilon=1e-6)
VARIANTS = {  # Radford et al. 2021, tables 19 and 20; Zhai et al. 2023, sec. 4, and big_vision's configs
    "clip_vit_b32": _clip(_clip_vit("B/32"), "M", 512),
    "clip_vit_b16": _clip(_clip_vit("B/16"), "M", 512),
    "clip_vit_l14": _clip(_clip_vit("L/14"), "B", 768),
    "clip_vit_l14_336": _clip(_clip_vit("L/14"), "B", 768),  # the same, for images of 336 pixels
    "clip_rn50": _clip_resnet("RN50", "M", 1024),
    "clip_rn101": _clip_resnet("RN101", "M", 512),
    "clip_rn50x4": _clip_resnet("RN50x4", "M", 640, width=640, num_heads=10),  # for images of 288 pixels
    "clip_rn50x16": _clip_resnet("RN50x16", "B", 768),  # 384
    "clip_rn50x64": _clip_resnet("RN50x64", "B", 1024, width=1024, num_heads=16),  # 448
    "siglip_vit_b16": Variant(
        dict(name="vit", variant="B/16", pool="map", posemb="learned"),
        dict(name="text_transformer", variant="B", init="xavier", **SIGLIP_TEXT),
        embedding=768,
        image_projection="none",
        text_projection="affine",
        scale=10.0,
        bias=-10.0,
    ),
}
SMALL = {
    "variant": None,
    "image": {"name": "resnet", "variant": "8", "width": 0.25},
    "text": {
        "name": "text_transformer",
        "width": 16,
        "depth": 1,
        "num_heads": 2,
        "vocab_size": 259,  # of bytes
        "end_token": 2,
    },
    "embedding": 16,
    "image_projection": "linear",
}


class Tower(nn.Module):
    """A backbone, and a projection of its features to the space that both towers share.

    The variables are the backbone's own and, next to them, `projection`.

    Attributes:
      backbone: Model without a head, `inputs -> (features [b, d], out)`.
      projection: Kind of the projection: "linear", "affine" or "none".
      embedding: Dimension e of the projections.
      dtype: Type of the computation, float32 or bfloat16.

    Returns:
      (projections float32 [b, e], features float32 [b, d], out). The last two are the backbone's.
    """

    backbone: nn.Module
    projection: str
    embedding: int
    dtype: jnp.dtype

    def setup(self) -> None:
        nn.share_scope(self, self.backbone)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array, dict]:
        """Maps x, images [b, height, width, 3] or tokens [b, n], to projections [b, e], features and outputs."""
        features, out = self.backbone(x, train)
        if self.projection == "none":
            return features, features, out
        # Normal with standard deviation d ** -0.5, as in CLIP's code.
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        bias = self.projection == "affine"
        dense = nn.Dense(self.embedding, bias, dtype=self.dtype, kernel_init=init, name="projection")
        return dense(features).astype(jnp.float32), features, out


class TwoTowers(nn.Module):
    """Module of `two_towers`, which documents and checks the options."""

    image_tower: Tower
    text_tower: Tower
    scale: float
    bias: float | str | None

    def layer_order(self) -> dict[str, Groups]:
        """See `order`; each tower counts its own layers."""
        return {tower: getattr(self, tower).backbone.layer_order() for tower in TOWERS}

    @nn.compact
    def __call__(
        self, images: jax.Array | None = None, tokens: jax.Array | None = None, train: bool = False
    ) -> dict[str, Any]:
        """Maps images [b, height, width, 3], tokens [b, n], or both to the outputs by name; their scale is a scalar."""
        out: dict[str, Any] = {}
        if images is not None:
            out["image_projection"], out["image_features"], out["image"] = self.image_tower(images, train)
        if tokens is not None:
            out["text_projection"], out["text_features"], out["text"] = self.text_tower(tokens, train)
        if images is not None and tokens is not None:
            dimensions = [out[name].shape[-1] for name in ("image_projection", "text_projection")]
            if len(set(dimensions)) > 1:
                raise UserError(
                    "the towers embed images and texts in spaces of {} and {} dimensions: give both a projection, or "
                    "set model.embedding to the width of the tower without one".format(*dimensions)
                )
        constant = nn.initializers.constant
        out["logit_scale"] = self.param("logit_scale", constant(math.log(self.scale)), ())
        if self.bias is not None:
            others = 1 if images is None else max(len(images) - 1, 1)
            bias = -math.log(others) if isinstance(self.bias, str) else self.bias  # the only string is "batch"
            out["logit_bias"] = self.param("logit_bias", constant(bias), ())
        return out


@part(
    "pair model",
    small=SMALL,
    variants={
        name: f"{v.image['name']} {v.image['variant']} and {v.text['name']} {v.text['variant']}; "
        f"{v.embedding:,} dimensions in common"
        for name, v in VARIANTS.items()
    },
)
def two_towers(
    *,
    dtype: jnp.dtype = jnp.float32,
    variant: str | None = None,
    image: Annotated[Mapping[str, Any] | None, Section("model")] = None,
    text: Annotated[Mapping[str, Any] | None, Section("text model")] = None,
    embedding: int | None = None,
    image_projection: str | None = None,
    text_projection: str | None = None,
    scale: float | None = None,
    bias: float | str | None = None,
) -> TwoTowers:
    """A model of images and texts. The defaults are CLIP's.

    Applied to float images [b, height, width, 3] and token ids int32 [b, n], or to one of them, it returns a dict of
    "image_projection" and "text_projection", float32 [b, e], not scaled to length 1; "image_features" and
    "text_features", float32 [b, d], the towers' outputs before the projections; "image" and "text", the other outputs
    of the towers; and two parameters, float32 scalars: "logit_scale", the logarithm of the factor of cosines, and
    "logit_bias".

    Args:
      dtype: Type of the computation, float32 or bfloat16; parameters are float32.
      variant: Name of a published model: "clip_vit_b32", "clip_vit_b16", "clip_vit_l14", "clip_vit_l14_336",
        "clip_rn50", "clip_rn101", "clip_rn50x4", "clip_rn50x16", "clip_rn50x64" or "siglip_vit_b16". The other
        arguments then replace single options of it.
      image: Section of an image model without its classes, such as `dict(name="vit", variant="S/16")`.
      text: Section of a text model, such as `dict(name="text_transformer", variant="S")`.
      embedding: Dimension e of the projections; None for the variant's, or 512.
      image_projection: Kind of the projection of images: "linear" (no bias, as in CLIP), "affine" (with a bias) or
        "none", where the features are the embedding, as in SigLIP's image tower and in LiT. None for the variant's, or
        "linear".
      text_projection: Kind of the projection of texts, one of the same; "affine" in SigLIP.
      scale: Initial factor of cosines, above 0. Its logarithm is the parameter. None for the variant's, or 1 / 0.07 as
        in CLIP; SigLIP has 10.
      bias: Initial value that is added to scaled cosines, or "batch" for -ln(b - 1): then a sigmoid over b x b pairs
        starts at their share of positives. SigLIP's -10 does so for batches of some 20,000. None for the variant's, or
        no bias, as in CLIP: a softmax does not depend on it.

    Raises:
      UserError: An unknown variant, model or option value; or, when the model is initialised, towers whose embeddings
        have different dimensions.
    """
    if variant is not None and variant not in VARIANTS:
        raise unknown("variant of two_towers", variant, VARIANTS)
    published = VARIANTS[variant] if variant else Variant({}, {}, embedding=512)
    image, text = towers(variant=variant, image=image, text=text).values()
    overrides: dict[str, Any] = dict(
        embedding=embedding,
        image_projection=image_projection,
        text_projection=text_projection,
        scale=scale,
        bias=bias,
    )
    options = published._replace(**{name: value for name, value in overrides.items() if value is not None})
    positive("embedding", options.embedding)
    positive("scale", options.scale)
    if isinstance(options.bias, str):
        one_of("bias", options.bias, ("batch",))
    for option in ("image_projection", "text_projection"):
        one_of(option, getattr(options, option), PROJECTIONS)
    _check_sections(image, text)
    images = models.build(**image, num_classes=None, dtype=dtype)
    texts = models.build_text(**text, dtype=dtype)
    return TwoTowers(
        image_tower=Tower(images, options.image_projection, options.embedding, dtype),
        text_tower=Tower(texts, options.text_projection, options.embedding, dtype),
        scale=options.scale,
        bias=options.bias,
    )


def towers(
    *,
    variant: str | None = None,
    image: Mapping[str, Any] | None = None,
    text: Mapping[str, Any] | None = None,
    **_: Any,
) -> dict[str, dict[str, Any]]:
    """Completes the sections of both towers with the options of a variant.

    A section of another model replaces that of the variant. A section of the same model, or without a name, changes
    single options.

    Args:
      variant: Name of a published model, or None.
      image: Section of the image tower, or a part of it.
      text: Section of the text tower, or a part of it.
      **_: Other options of `two_towers`, which do not matter here.

    Returns:
      The sections by the names of the towers among the parameters, "image_tower" and "text_tower".

    Raises:
      UserError: A section without the name of its model, and no variant.

    >>> towers(variant="clip_vit_b32", text=dict(length=32))["text_tower"]
    {'name': 'text_transformer', 'variant': 'M', 'length': 32}
    """
    defaults = VARIANTS.get(variant or "", Variant({}, {}, embedding=0))
    sections = {}
    for tower, default, override in zip(TOWERS, (defaults.image, defaults.text), (image, text)):
        section = dict(override or {})
        same = section.get("name", default.get("name")) == default.get("name")
        sections[tower] = {**default, **section} if same else section
        if "name" not in sections[tower]:
            kind = tower.removesuffix("_tower")
            raise UserError(f"two_towers needs a variant, or a section {kind!r} with the name of a model")
    return sections


def _check_sections(image: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    if not own_modules.is_own(image["name"]) and image["name"] not in models.NAMES:
        raise unknown("image model of two_towers", image["name"], models.NAMES)
    for kind, section in (("image", image), ("text", text)):
        for option in ("num_classes", "dtype"):
            if option in section:
                raise UserError(
                    f"model.{kind} takes no {option!r}: towers have no classes, and set model.dtype for both"
                )
