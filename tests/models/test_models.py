"""What every model promises: names, options, parameter counts, shapes, dtypes, gradients, cost."""

import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.models.resnet import ResNet

REFERENCE = json.loads((pathlib.Path(__file__).parents[1] / "reference" / "param_counts.json").read_text())
PAPER = {"pool": "token", "posemb": "learned"}
GAP = {"pool": "gap", "posemb": "learned"}
SMALL = {"vit": {"variant": "mu/4", "depth": 2}, "resnet": {"variant": 8}, "bit": {"blocks": (1, 1), "width": 0.5}}


def reference_models():
    """(row of the reference, model, number of classes, options)."""
    sizes = {"tiny": "Ti", "small": "S", "base": "B", "large": "L", "huge": "H"}
    for name, size in sizes.items():
        big = {"scan": name in ("large", "huge")}  # traced faster, and the count is the same
        for patch in (14, 16, 32):
            yield f"vit_{name}_patch{patch}_224", "vit", 1000, {"variant": f"{size}/{patch}", **PAPER, **big}
        patch = 14 if name == "huge" else 16
        yield f"vit_{name}_gap_nohead_patch{patch}", "vit", None, {"variant": f"{size}/{patch}", **PAPER, **big}
    yield "vit_base_patch16_384", "vit", 1000, {"variant": "B/16", **PAPER}
    yield "vit_large_patch16_224_in21k_head", "vit", 21843, {"variant": "L/16", "scan": True, **PAPER}
    yield "vit_tiny_patch16_224_gap_simple", "vit", 1000, {"variant": "Ti/16", **GAP}
    yield "vit_small_patch16_224_gap_simple", "vit", 1000, {"variant": "S/16", **GAP}
    for name, options in {
        "tiny": {"variant": "Ti/4"},
        "small": {"variant": "S/4"},
        "small7": {"variant": "S/4", "depth": 7},
        "base": {"variant": "B/4"},
        "d6w256": {"variant": "Ti/4", "depth": 6, "width": 256, "num_heads": 4},
    }.items():
        yield f"vit_cifar_{name}_p4_cls10", "vit", 10, {**options, **PAPER}
        yield f"vit_cifar_{name}_p4_gap10", "vit", 10, {**options, **GAP}
    for layers in (18, 34, 50, 101, 152):
        yield f"resnet{layers}", "resnet", 1000, {"variant": layers}
    for layers in (20, 32, 44, 56, 110):
        yield f"cifar_resnet{layers}_A", "resnet", 10, {"variant": layers}
    yield "cifar_resnet20_B", "resnet", 10, {"variant": 20, "shortcut": "B"}
    yield "resnet18_cifar_stem_10", "resnet", 10, {"variant": 18, "stem": "cifar"}
    yield "bit_m_resnetv2_152x4", "bit", 1000, {"variant": "R152x4"}


def shapes(model, size):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))


def test_every_reference_count_is_checked():
    assert {row for row, *_ in reference_models()} == set(REFERENCE) - {"_about"}


@pytest.mark.parametrize(("row", "name", "num_classes", "options"), list(reference_models()), ids=lambda v: str(v)[:40])
def test_parameter_count(row, name, num_classes, options):
    variables = shapes(models.build(name, num_classes, **options), REFERENCE[row]["input"])
    assert sum(x.size for x in jax.tree.leaves(variables["params"])) == REFERENCE[row]["params"]


@pytest.mark.parametrize(
    ("row", "name", "options"),
    [("vit_small_patch16_224", "vit", {"variant": "S/16", **PAPER}), ("resnet50", "resnet", {"variant": 50})],
)
def test_cost_of_a_forward_pass(row, name, options):
    model = models.build(name, 1000, **options)
    x = jnp.zeros((1, 224, 224, 3))
    variables = shapes(model, 224)
    flops = jax.jit(lambda v, x: model.apply(v, x)[1]["logits"]).lower(variables, x).cost_analysis()["flops"]
    assert flops / 2e9 == pytest.approx(REFERENCE[row]["gmacs"], rel=0.05)  # XLA counts element-wise work too


def test_every_model_is_tested_here():
    assert set(SMALL) == set(models.NAMES)


@pytest.fixture(scope="module", params=list(SMALL))
def small(request, images, random_variables):
    model = models.build(request.param, 5, **SMALL[request.param])
    return request.param, model, random_variables(model.init, images)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_shapes_and_dtypes(small, images, dtype):
    name, _, _ = small
    model = models.build(name, 5, dtype=dtype, **SMALL[name])
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    assert {x.dtype for x in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    features, out = jax.eval_shape(model.apply, variables, images)
    want = {
        "vit": {
            "embedding": (2, 4, 4, 32),
            "stages": ((2, 4, 4, 32), (2, 4, 4, 32)),
            "tokens": (2, 16, 32),
            "map": (2, 4, 4, 32),
        },
        "resnet": {
            "stem": (2, 16, 16, 16),
            "stages": ((2, 16, 16, 16), (2, 8, 8, 32), (2, 4, 4, 64)),
            "tokens": (2, 16, 64),
            "map": (2, 4, 4, 64),
        },
        "bit": {
            "stem": (2, 4, 4, 32),
            "stages": ((2, 4, 4, 128), (2, 2, 2, 256)),
            "tokens": (2, 4, 256),
            "map": (2, 2, 2, 256),
        },
    }[name]
    logits = out.pop("logits")
    assert jax.tree.map(lambda x: x.shape, out) == want
    assert {x.dtype for x in jax.tree.leaves(out)} == {jnp.dtype(dtype)}
    assert (features.shape, features.dtype) == ((2, want["tokens"][-1]), jnp.float32)
    assert (logits.shape, logits.dtype) == ((2, 5), jnp.float32)


def test_bfloat16_is_close_to_float32(small, images):
    name, model, variables = small
    half = models.build(name, 5, dtype=jnp.bfloat16, **SMALL[name])
    exact, _ = jax.jit(model.apply)(variables, images)
    close, _ = jax.jit(half.apply)(variables, images)
    assert jnp.abs(exact - close).max() < 0.03 * jnp.abs(exact).max()
    assert jnp.abs(exact - close).max() > 0


def test_gradients_are_finite_and_reach_every_parameter(small, images):
    _, model, variables = small
    rest = {k: v for k, v in variables.items() if k != "params"}

    def loss(params, images):
        (_, out), _ = model.apply({"params": params, **rest}, images, train=True, mutable=["batch_stats"])
        return jnp.square(out["logits"] - 1).mean()

    for scale in (1.0, 0.0, 1e3):  # a black image too
        gradients = jax.jit(jax.grad(loss))(variables["params"], scale * images)
        assert all(jnp.isfinite(g).all() for g in jax.tree.leaves(gradients))
        if scale == 1.0:
            silent = [jax.tree_util.keystr(p) for p, g in jax.tree.leaves_with_path(gradients) if not g.any()]
            # Softmax ignores what is added to every key, so the gradient of its bias is rounding noise or nothing.
            assert all("['key']['bias']" in path for path in silent), silent


def test_evaluation_sees_each_image_alone(small, images):
    _, model, variables = small
    apply = jax.jit(model.apply)
    both, _ = apply(variables, images)
    np.testing.assert_allclose(both, apply(variables, images[::-1])[0][::-1], rtol=1e-4, atol=1e-5)


def test_a_model_without_head_has_no_logits(small, images):
    name, _, _ = small
    model = models.build(name, None, **SMALL[name])
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    assert "head" not in variables["params"]
    assert "logits" not in jax.eval_shape(model.apply, variables, images)[1]


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        (("vitt", 10), {}, "unknown model 'vitt'; did you mean 'vit'"),
        (("vit", 10), {"varient": "S/16"}, "unknown option of model 'vit' 'varient'; did you mean 'variant'"),
        (("vit", 0), {}, "num_classes is at least 1"),
        (("vit", 10), {"variant": "Q/16"}, "unknown ViT size 'Q'"),
        (("vit", 10), {"variant": "S"}, "like 'S/16', not 'S'"),
        (("vit", 10), {"variant": "S/0"}, "like 'S/16', not 'S/0'"),
        (("vit", 10), {"pool": "mean"}, "unknown pool 'mean'. Choices: gap, map, none, token"),
        (("vit", 10), {"posemb": "sincos"}, "did you mean 'sincos2d'"),
        (("vit", 10), {"gelu": "erf"}, "unknown gelu"),
        (("vit", 10), {"attention": "flash"}, "unknown attention"),
        (("vit", 10), {"remat": "half"}, "unknown remat"),
        (("vit", 10), {"dropout": 1.0}, "dropout is a rate"),
        (("vit", 10), {"drop_path": -0.1}, "drop_path is a rate"),
        (("vit", 10), {"width": 100}, "multiple of num_heads"),
        (("vit", 10), {"width": 30, "num_heads": 3}, "multiple of 4"),
        (("vit", 10), {"depth": 0}, "depth must be above 0"),
        (("resnet", 10), {"variant": 51}, "unknown ResNet variant '51'"),
        (("resnet", 10), {"stem": "cifar10"}, "did you mean 'cifar'"),
        (("resnet", 10), {"shortcut": "C"}, "unknown shortcut"),
        (("resnet", 10), {"stride_in": "2x2"}, "unknown stride_in"),
        (("resnet", 10), {"width": 0}, "width must be above 0"),
        (("bit", 10), {"variant": "R50x2"}, "unknown BiT variant"),
        (("bit", 10), {"width": 0.3}, "multiple of 32"),
        (("bit", 10), {"head_init": "ones"}, "unknown head_init"),
    ],
    ids=lambda v: str(v)[:40],
)
def test_mistakes_are_named_when_the_model_is_built(args, kwargs, message):
    with pytest.raises(UserError) as error:
        models.build(*args, **kwargs)
    assert message in str(error.value)


def test_module_equality_lets_jit_reuse_its_cache():
    assert models.build("resnet", 10, variant=8) == models.build("resnet", 10, variant=8)
    assert isinstance(hash(models.build("vit", 10)), int)
    assert isinstance(models.build("resnet", 10), ResNet)
