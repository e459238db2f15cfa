"""Two towers, one for images and one for texts, that embed both in one space: CLIP, Radford et al. 2021,
arXiv 2103.00020, and SigLIP, Zhai et al. 2023, arXiv 2303.15343."""

import math
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision import models, own_modules
from jaxvision.arguments import Section
from jaxvision.errors import UserError, unknown
from jaxvision.found import part
from jaxvision.models.options import one_of, positive
from jaxvision.models.order import Groups

TOWERS = ("image_tower", "text_tower")
PROJECTIONS = ("linear", "affine", "none")


class Variant(NamedTuple):
    """A published model: sections of its towers, and the options of `two_towers` that it was trained with."""

    image: Mapping[str, Any]
    text: Mapping[str, Any]
    embedding: int
    image_projection: str = "linear"
    text_projection: str = "linear"
    scale: float = 1 / 0.07
    bias: float | None = None


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
    """A backbone and what brings its features to the common space.

    The variables are those of the backbone, and `projection` beside them.

    Returns:
      (projection float32 [B, E], features float32 [B, D], out): the last two are the backbone's.
    """

    backbone: nn.Module
    projection: str
    embedding: int
    dtype: jnp.dtype

    def setup(self) -> None:
        nn.share_scope(self, self.backbone)

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, jax.Array, dict]:
        features, out = self.backbone(x, train)
        if self.projection == "none":
            return features, features, out
        # Normal of deviation D ** -0.5, as in CLIP's code.
        init = nn.initializers.variance_scaling(1.0, "fan_in", "normal")
        bias = self.projection == "affine"
        dense = nn.Dense(self.embedding, bias, dtype=self.dtype, kernel_init=init, name="projection")
        return dense(features).astype(jnp.float32), features, out


class TwoTowers(nn.Module):
    """See `two_towers` for the options, which are checked there."""

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
        out = {}
        if images is not None:
            out["image_projection"], out["image_features"], out["image"] = self.image_tower(images, train)
        if tokens is not None:
            out["text_projection"], out["text_features"], out["text"] = self.text_tower(tokens, train)
        if images is not None and tokens is not None:
            dimensions = [out[name].shape[-1] for name in ("image_projection", "text_projection")]
            if len(set(dimensions)) > 1:
                raise UserError(
                    "the towers embed images and texts in spaces of {} and {} dimensions: give both a projection, or "
                    "set model.embedding to the width of the tower that has none".format(*dimensions)
                )
        constant = nn.initializers.constant
        out["logit_scale"] = self.param("logit_scale", constant(math.log(self.scale)), ())
        if self.bias is not None:
            others = 1 if images is None else max(len(images) - 1, 1)
            bias = -math.log(others) if self.bias == "batch" else self.bias
            out["logit_bias"] = self.param("logit_bias", constant(bias), ())
        return out


@part("pair model", small=SMALL)
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

    Applied to float images [B, H, W, 3] and token ids int32 [B, L], or to one of them, it returns a dict of
    "image_projection" and "text_projection", float32 [B, E], of any length; "image_features" and "text_features",
    float32 [B, D], of the towers before it; "image" and "text", what else the towers return; and the parameters
    "logit_scale", the logarithm of what multiplies cosines, and "logit_bias", float32 scalars.

    Args:
      dtype: of the computation; parameters are float32.
      variant: "clip_vit_b32", "clip_vit_b16", "clip_vit_l14", "clip_vit_l14_336", "clip_rn50", "clip_rn101",
        "clip_rn50x4", "clip_rn50x16", "clip_rn50x64" or "siglip_vit_b16"; what follows then changes single options of
        it.
      image: section of an image model without its classes: `dict(name="vit", variant="S/16")`.
      text: section of a text model: `dict(name="text_transformer", variant="S")`.
      embedding: E of the projections, 512 by default.
      image_projection, text_projection: "linear" (no bias, as in CLIP), "affine" (with a bias, as in SigLIP's text
        tower), or "none": the features of the tower are its embedding, as in SigLIP's image tower and in LiT.
      scale: initial factor of cosines: 1 / 0.07, whose logarithm is the parameter, or 10 in SigLIP.
      bias: initial value of what is added to scaled cosines, or "batch": -ln(B - 1), with which a sigmoid over B x B
        pairs starts at their share of positives, where SigLIP's -10 is right for batches of some 20,000. None for no
        bias, as in CLIP: a softmax does not change with it.

    Raises:
      UserError: an unknown variant, model or option value; towers of two dimensions, when the model is initialised.
    """
    if variant is not None and variant not in VARIANTS:
        raise unknown("variant of two_towers", variant, VARIANTS)
    named = VARIANTS[variant] if variant else Variant({}, {}, embedding=512)
    image, text = towers(variant=variant, image=image, text=text).values()
    chosen = dict(embedding=embedding, image_projection=image_projection, text_projection=text_projection)
    chosen |= dict(scale=scale, bias=bias)
    named = named._replace(**{name: value for name, value in chosen.items() if value is not None})
    for option, value in (("embedding", named.embedding), ("scale", named.scale)):
        positive(option, value)
    if isinstance(named.bias, str):
        one_of("bias", named.bias, ("batch",))
    for option in ("image_projection", "text_projection"):
        one_of(option, getattr(named, option), PROJECTIONS)
    _check_sections(image, text)
    images = models.build(**image, num_classes=None, dtype=dtype)
    texts = models.build_text(**text, dtype=dtype)
    return TwoTowers(
        image_tower=Tower(images, named.image_projection, named.embedding, dtype),
        text_tower=Tower(texts, named.text_projection, named.embedding, dtype),
        scale=named.scale,
        bias=named.bias,
    )


def towers(
    *,
    variant: str | None = None,
    image: Mapping[str, Any] | None = None,
    text: Mapping[str, Any] | None = None,
    **_: Any,
) -> dict[str, dict[str, Any]]:
    """The whole sections of both towers, by their names among the parameters.

    Args:
      variant, image, text: of `two_towers`, whose other options are not looked at. A section of another model takes
        the place of the variant's; one of the same model, or without a name, changes single options of it.

    >>> towers(variant="clip_vit_b32", text=dict(length=32))["text_tower"]
    {'name': 'text_transformer', 'variant': 'M', 'length': 32}
    """
    named = VARIANTS.get(variant, Variant({}, {}, embedding=0))
    sections = {}
    for tower, default, given in zip(TOWERS, (named.image, named.text), (image, text)):
        given = dict(given or {})
        same = given.get("name", default.get("name")) == default.get("name")
        sections[tower] = {**default, **given} if same else given
        if "name" not in sections[tower]:
            kind = tower.removesuffix("_tower")
            raise UserError(f"two_towers needs the section {kind!r} of a model, with its name, or a variant")
    return sections


def _check_sections(image: Mapping[str, Any], text: Mapping[str, Any]) -> None:
    if not own_modules.is_own(image["name"]) and image["name"] not in models.NAMES:
        raise unknown("image model of two_towers", image["name"], models.NAMES)
    for kind, section in (("image", image), ("text", text)):
        for option in ("num_classes", "dtype"):
            if option in section:
                raise UserError(f"model.{kind} takes no {option!r}: a tower has no classes, and the dtype of the pair")
