"""What later papers added to the Vision Transformer, one option after another."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.models.patches import patchify, unpatchify
from jaxvision.models.positions import rope2d, sincos2d
from jaxvision.models.transformer import Encoder, TransformerBlock


def build(**options):
    return models.build("vit", 5, **{"variant": "mu/4", "depth": 2, **options})


def paths(model, images):
    """Shapes of the parameters outside of the encoder."""
    params = dict(jax.eval_shape(model.init, jax.random.key(0), images)["params"])
    params.pop("encoder")
    flat = jax.tree.leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): x.shape for path, x in flat}


def test_parameters_of_a_distilled_vit_with_registers(images):
    model = build(pool="token", posemb="learned", distilled=True, registers=3, pre_norm=True, patch_bias=False)
    assert paths(model, images) == {
        "cls": (1, 1, 32),
        "distillation_head/bias": (5,),
        "distillation_head/kernel": (32, 5),
        "distillation_token": (1, 1, 32),
        "embedding/kernel": (4, 4, 3, 32),
        "head/bias": (5,),
        "head/kernel": (32, 5),
        "pos_embedding": (1, 18, 32),
        "pre_norm/bias": (32,),
        "pre_norm/scale": (32,),
        "registers": (1, 3, 32),
    }
    assert paths(build(pool="token", posemb="learned", cls_position=False), images)["pos_embedding"] == (1, 16, 32)


def test_registers_are_seen_left_out_and_interchangeable(images, random_variables):
    model = build(registers=3)
    variables = random_variables(model.init, images)
    apply = jax.jit(model.apply)
    features, out = apply(variables, images)
    assert out["tokens"].shape == (2, 16, 32)
    assert {x.shape for x in out["stages"]} == {(2, 4, 4, 32)}
    registers = variables["params"]["registers"]

    def with_registers(registers):
        return apply({"params": variables["params"] | {"registers": registers}}, images)[0]

    np.testing.assert_allclose(with_registers(registers[:, ::-1]), features, atol=1e-5)
    assert not np.allclose(with_registers(-registers), features, atol=1e-3)


def test_registers_start_apart(images):
    registers = jax.jit(build(registers=2, depth=1).init)(jax.random.key(0), images)["params"]["registers"]
    assert not np.array_equal(registers[0, 0], registers[0, 1])


@pytest.mark.parametrize("posemb", ["sincos2d", "rope"])
def test_patch_dropout_encodes_the_patches_it_keeps_where_they_are(images, random_variables, posemb):
    model = build(posemb=posemb, patch_dropout=0.7)
    variables = random_variables(model.init, images)
    train = jax.jit(functools.partial(model.apply, train=True))
    features, out = train(variables, images, rngs={"dropout": jax.random.key(3)})
    kept = np.asarray(out["kept"])
    assert kept.shape == (2, 4)
    assert all(len(set(row)) == 4 for row in kept)
    assert set(kept[0]) != set(kept[1])
    assert "map" not in out
    x = np.asarray(out["embedding"]).reshape(2, 16, 32)
    angles = None
    if posemb == "rope":
        angles = rope2d(4, 4, 16)[kept]
    else:
        x = x + sincos2d(4, 4, 32)
    encoder = Encoder(functools.partial(TransformerBlock, model.block, jnp.float32), 2, False, "none", jnp.float32)
    x = np.take_along_axis(np.asarray(x), kept[..., None], axis=1)
    want, _ = jax.jit(lambda v, x: encoder.apply(v, x, False, angles))({"params": variables["params"]["encoder"]}, x)
    np.testing.assert_allclose(out["tokens"], want, atol=1e-5)
    np.testing.assert_allclose(features, want.mean(1), atol=1e-5)


def test_patch_dropout_keeps_every_other_token_and_everything_in_evaluation(images, random_variables):
    options = {"pool": "token", "posemb": "learned", "distilled": True, "registers": 2}
    model = build(patch_dropout=0.75, **options)
    variables = random_variables(model.init, images)
    want, _ = jax.jit(build(**options).apply)(variables, images)
    features, out = jax.jit(model.apply)(variables, images)
    np.testing.assert_array_equal(features, want)
    assert "kept" not in out
    train = functools.partial(model.apply, train=True, rngs={"dropout": jax.random.key(0)})
    features, out = jax.eval_shape(train, variables, images)
    assert features.shape == (2, 32)
    assert [x.shape for x in (out["tokens"], *out["stages"])] == [(2, 4, 32)] * 3


def test_patches_that_a_task_keeps_are_those_of_patch_dropout(images, random_variables):
    model = build(patch_dropout=0.75, pool="token", registers=1)
    variables = random_variables(model.init, images)
    features, out = jax.jit(functools.partial(model.apply, train=True))(
        variables, images, rngs={"dropout": jax.random.key(0)}
    )
    got, chosen = jax.jit(functools.partial(model.apply))(variables, images, kept=out["kept"])
    np.testing.assert_allclose(got, features, atol=1e-6)
    np.testing.assert_array_equal(chosen["kept"], out["kept"])
    assert chosen["prefix"].shape == (2, 2, 32)
    np.testing.assert_allclose(chosen["prefix"][:, 0], features, atol=1e-6)


@pytest.mark.parametrize("posemb", ["learned", "sincos2d"])
def test_masked_patches_hold_the_mask_token_and_their_positions(images, random_variables, posemb):
    model = build(posemb=posemb, patch_bias=False)
    masked = np.arange(32).reshape(2, 16) % 3 == 0
    variables = random_variables(functools.partial(model.init, masked=masked), images)
    apply = jax.jit(model.apply)
    plain, whole = apply(variables, images)
    np.testing.assert_array_equal(apply(variables, images, masked=np.zeros_like(masked))[0], plain)
    params = variables["params"]
    assert params["mask_token"].shape == (1, 1, 32)
    # Images of one patch that the embedding turns into the mask token do the same.
    token = np.linalg.lstsq(params["embedding"]["kernel"].reshape(48, 32).T, params["mask_token"][0, 0])[0]
    patches = np.where(masked[..., None], token, patchify(images, 4).reshape(2, 16, 48))
    got, out = apply(variables, images, masked=masked)
    np.testing.assert_allclose(got, apply(variables, unpatchify(patches, (4, 4)))[0], atol=1e-4)
    assert out["map"].shape == whole["map"].shape


def test_distillation_trains_two_heads_and_evaluates_their_mean(images, random_variables):
    model = build(pool="token", posemb="learned", distilled=True)
    variables = random_variables(model.init, images)
    _, trained = jax.jit(functools.partial(model.apply, train=True))(variables, images)
    features, out = jax.jit(model.apply)(variables, images)
    assert not np.allclose(trained["logits"], trained["distillation_logits"])
    np.testing.assert_allclose(out["logits"], (trained["logits"] + trained["distillation_logits"]) / 2, atol=1e-5)
    kernels = [variables["params"][name]["kernel"] for name in ("head", "distillation_head")]
    biases = [variables["params"][name]["bias"] for name in ("head", "distillation_head")]
    same = variables["params"] | {"distillation_head": variables["params"]["head"]}
    _, out = jax.jit(model.apply)({"params": same}, images)
    np.testing.assert_allclose(out["logits"], features @ kernels[0] + biases[0], atol=1e-5)


def test_representation_layer_lies_between_features_and_head(images, random_variables):
    model = build(rep_size=7)
    variables = random_variables(model.init, images)
    features, out = jax.jit(model.apply)(variables, images)
    p = variables["params"]
    representation = np.tanh(features @ p["pre_logits"]["kernel"] + p["pre_logits"]["bias"])
    assert representation.shape == (2, 7)
    np.testing.assert_allclose(out["pre_logits"], representation, atol=1e-5)
    np.testing.assert_allclose(out["logits"], representation @ p["head"]["kernel"] + p["head"]["bias"], atol=1e-5)


def test_qk_norm_takes_no_notice_of_the_size_of_queries_and_keys(images, random_variables):
    for qk_norm in (True, False):
        model = build(qk_norm=qk_norm, depth=1)
        variables = random_variables(model.init, images)
        grown = jax.tree.map_with_path(
            lambda path, x: x * 5 if "['query']" in jax.tree_util.keystr(path) else x, variables
        )
        features, changed = (jax.jit(model.apply)(v, images)[0] for v in (variables, grown))
        assert np.allclose(features, changed, atol=1e-4) == qk_norm


def test_pre_norm_takes_no_notice_of_contrast(images, random_variables):
    for pre_norm in (True, False):
        model = build(pre_norm=pre_norm, patch_bias=False, posemb="none", depth=1)
        apply = functools.partial(jax.jit(model.apply), random_variables(model.init, images))
        assert np.allclose(apply(images)[0], apply(5 * images)[0], atol=1e-4) == pre_norm


def test_initialisation(images):
    """DeiT: normal with deviation 0.02, class token too. The original: Xavier uniform, class token 0."""
    for init, deviation in {"normal": 0.02, "xavier": np.sqrt(2 / (128 + 512))}.items():
        model = build(width=128, depth=1, pool="token", posemb="learned", init=init)
        params = jax.jit(model.init)(jax.random.key(0), images)["params"]
        kernel = params["encoder"]["block_00"]["mlp"]["dense_0"]["kernel"]
        assert kernel.std() == pytest.approx(deviation, rel=0.05)
        assert params["pos_embedding"].std() == pytest.approx(0.02, rel=0.1)
        assert params["cls"].any() == (init == "normal")


@pytest.mark.parametrize(
    "options",
    [
        {"pool": "token", "posemb": "learned", "distilled": True, "registers": 2, "layer_scale": 0.1},
        {"pool": "map", "posemb": "rope", "qk_norm": True, "parallel": "pairs", "rep_size": 7},
        {"parallel": "mlp", "layer_scale": 0.1, "pre_norm": True, "base_patch": 6, "patch_dropout": 0.5},
    ],
    ids=lambda options: "-".join(options),
)
def test_gradients_are_finite_and_reach_every_parameter(images, random_variables, options):
    model = build(depth=1, **options)
    params = random_variables(model.init, images)["params"]

    def loss(params):
        rngs = {"dropout": jax.random.key(0)}
        _, out = model.apply({"params": params}, images, train=True, rngs=rngs)
        return jnp.square(out["logits"] - 1).mean() + jnp.square(out.get("distillation_logits", 0.0)).mean()

    gradients = jax.tree.leaves_with_path(jax.jit(jax.grad(loss))(params))
    assert all(np.isfinite(g).all() for _, g in gradients)
    silent = [jax.tree_util.keystr(path) for path, g in gradients if not g.any()]
    assert all("['bias']" in path and "['key" in path for path in silent), silent  # softmax ignores it
