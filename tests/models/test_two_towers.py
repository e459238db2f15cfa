"""The model of two_towers: published sizes, its parts, and what its options change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.models.two_towers import VARIANTS, towers

VIT = dict(name="vit", variant="mu/8", depth=1, pool="gap")
TEXT = dict(name="text_transformer", variant="mu", depth=1, vocab_size=11, length=5)
SMALL = dict(image=VIT, text=TEXT, embedding=6)
IMAGES, TOKENS = jnp.zeros((4, 16, 16, 3)), jnp.arange(20).reshape(4, 5) % 11
SIGLIP_B16 = 203_155_970  # of google/siglip-base-patch16-224 on Hugging Face


def shapes(size=None, length=5, **options):
    model = models.build("two_towers", None, **options)
    images = IMAGES if size is None else jnp.zeros((2, size, size, 3))
    return jax.eval_shape(model.init, jax.random.key(0), images, jnp.zeros((len(images), length), int))["params"]


def count(params):
    return sum(x.size for x in jax.tree.leaves(params))


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name.startswith("clip")])
def test_variants_of_clip_have_the_published_size(variant, reference):
    scan = {"scan": True} if "vit" in variant else {}
    params = shapes(reference[variant]["input"], 77, variant=variant, image=scan, text={"scan": True})
    assert count(params) == reference[variant]["params"]
    if "visual" in reference[variant]:
        assert count(params["image_tower"]) == reference[variant]["visual"]
    assert "logit_bias" not in params


def test_siglip_has_the_published_size():
    params = shapes(224, 64, variant="siglip_vit_b16", image={"scan": True}, text={"scan": True})
    assert count(params) == SIGLIP_B16
    assert "projection" not in params["image_tower"]
    assert "bias" in params["text_tower"]["projection"]


@pytest.fixture(scope="module")
def small(random_variables):
    model = models.build("two_towers", None, **SMALL)
    return model, random_variables(model.init, IMAGES, TOKENS)


def test_a_tower_is_its_backbone_and_a_projection(small):
    model, variables = small
    out = jax.jit(model.apply)(variables, IMAGES, TOKENS)
    for tower, part, inputs in (("image_tower", models.build, IMAGES), ("text_tower", models.build_text, TOKENS)):
        name = tower.removesuffix("_tower")
        options = dict(VIT, num_classes=None) if name == "image" else TEXT
        params = dict(variables["params"][tower])
        projection = params.pop("projection")
        features, _ = jax.jit(part(**options).apply)({"params": params}, inputs)
        np.testing.assert_allclose(out[f"{name}_features"], features, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(out[f"{name}_projection"], features @ projection["kernel"], rtol=1e-4, atol=1e-5)


def test_each_tower_can_be_had_alone(small):
    model, variables = small
    both = jax.jit(model.apply)(variables, IMAGES, TOKENS)
    image = jax.jit(lambda v: model.apply(v, images=IMAGES))(variables)
    text = jax.jit(lambda v: model.apply(v, tokens=TOKENS))(variables)
    np.testing.assert_array_equal(image["image_projection"], both["image_projection"])
    np.testing.assert_array_equal(text["text_projection"], both["text_projection"])
    assert "text_projection" not in image
    assert "image_projection" not in text


@pytest.mark.parametrize(("bias", "initial"), [(-10.0, -10.0), ("batch", -np.log(3))])
def test_scale_and_bias_start_where_the_options_say(bias, initial):
    model = models.build("two_towers", None, **SMALL, scale=10.0, bias=bias)
    params = jax.jit(model.init)(jax.random.key(0), IMAGES, TOKENS)["params"]
    np.testing.assert_allclose(params["logit_scale"], np.log(10), rtol=1e-6)
    np.testing.assert_allclose(params["logit_bias"], initial, rtol=1e-6)
    out = jax.jit(lambda p: model.apply({"params": p}, tokens=TOKENS))(params)  # no images, no size of a batch
    assert out["logit_bias"] == params["logit_bias"]


def test_bfloat16_has_float32_parameters_and_projections():
    model = models.build("two_towers", None, dtype=jnp.bfloat16, **SMALL)
    variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES, TOKENS)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    out = jax.eval_shape(model.apply, variables, IMAGES, TOKENS)
    assert out["image_projection"].dtype == out["text_projection"].dtype == jnp.float32
    assert out["image"]["tokens"].dtype == jnp.bfloat16


def test_any_backbone_will_do():
    params = shapes(**SMALL | dict(image=dict(name="resnet", variant="8", width=0.25)))
    assert params["image_tower"]["projection"]["kernel"].shape == (16, 6)


def test_patches_are_dropped_in_training_alone():
    model = models.build("two_towers", None, **SMALL | dict(image=VIT | dict(patch_dropout=0.5)))
    variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES, TOKENS)
    apply = lambda train: jax.eval_shape(
        lambda v: model.apply(v, IMAGES, TOKENS, train, rngs={"dropout": jax.random.key(0)}), variables
    )
    assert apply(True)["image"]["tokens"].shape[1] == 2
    assert apply(False)["image"]["tokens"].shape[1] == 4


def test_sections_change_single_options_of_a_variant():
    sections = towers(
        variant="clip_vit_b32", image=dict(patch_dropout=0.5), text=dict(name="text_transformer", depth=2)
    )
    assert sections["image_tower"] == {**VARIANTS["clip_vit_b32"].image, "patch_dropout": 0.5}
    assert sections["text_tower"]["variant"] == "M"
    other = towers(variant="clip_vit_b32", image=dict(name="resnet", variant="50"))
    assert other["image_tower"] == dict(name="resnet", variant="50")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(variant="clip_b32"), "unknown variant of two_towers 'clip_b32'; did you mean"),
        (dict(text=TEXT), "two_towers needs a variant, or a section 'image'"),
        (SMALL | dict(image_projection="lin"), "unknown image_projection 'lin'"),
        (SMALL | dict(scale=0.0), "scale must be above 0"),
        (SMALL | dict(bias="btach"), "unknown bias 'btach'; did you mean 'batch'"),
        (SMALL | dict(embeding=5), "unknown option of model 'two_towers' 'embeding'; did you mean 'embedding'"),
        (SMALL | dict(image_projection="none"), "in spaces of 32 and 6 dimensions"),
        (SMALL | dict(image=VIT | dict(num_classes=3)), "model.image takes no 'num_classes'"),
        (SMALL | dict(image=dict(name="two_towers")), "unknown image model of two_towers 'two_towers'"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(UserError, match=message):
        shapes(**options)


def test_it_has_no_classes_and_no_other_projection():
    with pytest.raises(UserError, match="has no classes: it is for the task 'image_text'"):
        models.build("two_towers", 10, **SMALL)
    with pytest.raises(UserError, match="projections of its own"):
        models.build("two_towers", None, projection_layers=2, **SMALL)
