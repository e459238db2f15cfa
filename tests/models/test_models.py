"""What every model promises: names, options, shapes, dtypes, gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.errors import UserError
from jaxvision.models.resnet import ResNet

SMALL = {name: models.NAMES.small(name) for name in models.NAMES}
UNTRAINED = [name for name, builder in models.NAMES.items() if not models.NAMES.more(builder, "head", True)]
PIXELS = {"stages": ((2, 16, 16, 3),), "tokens": (2, 256, 3), "map": (2, 16, 16, 3)}
FEATURES = {"lenet": 84, "clip_resnet": 24, "alexnet": 16, "zfnet": 16, "vgg": 16}
FEATURES |= {"linear": 768, "identity": 768, "mlp": 8, "cnn": 24, "mobilenet_v3": 24}
# One for each kind of layers; `pytest -m slow tests/models/test_models.py` has the others.
KINDS = ("vit", "mixer", "swin", "convnext", "resnet", "bit", "mobilenet_v3", "clip_resnet")
HALF = [name if name in KINDS else pytest.param(name, marks=pytest.mark.slow) for name in SMALL]


@pytest.fixture(scope="module", params=list(SMALL))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def images(name):
    size = models.NAMES.more(models.NAMES[name], "image_size", 16)
    return jax.random.normal(jax.random.key(7), (2, size, size, 3))


@pytest.fixture(scope="module")
def small(name, images, random_variables):
    model = models.build(name, 5, **SMALL[name])
    return name, model, random_variables(model.init, images)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_shapes_and_dtypes(small, images, dtype):
    name, _, _ = small
    model = models.build(name, 5, dtype=dtype, **SMALL[name])
    variables = jax.eval_shape(model.init, jax.random.key(0), images)
    assert {x.dtype for x in jax.tree.leaves(variables)} == ({jnp.dtype("float32")} if name not in UNTRAINED else set())
    features, out = jax.eval_shape(model.apply, variables, images)
    want = {
        "vit": {
            "embedding": (2, 4, 4, 32),
            "stages": ((2, 4, 4, 32), (2, 4, 4, 32)),
            "tokens": (2, 16, 32),
            "map": (2, 4, 4, 32),
        },
        "mixer": {
            "embedding": (2, 4, 4, 32),
            "stages": ((2, 4, 4, 32), (2, 4, 4, 32)),
            "tokens": (2, 16, 32),
            "map": (2, 4, 4, 32),
        },
        "convnext": {
            "stem": (2, 8, 8, 16),
            "stages": ((2, 8, 8, 16), (2, 4, 4, 32)),
            "tokens": (2, 16, 32),
            "map": (2, 4, 4, 32),
        },
        "clip_resnet": {
            "stem": (2, 4, 4, 16),
            "stages": ((2, 4, 4, 64), (2, 2, 2, 128)),
            "tokens": (2, 4, 128),
            "map": (2, 2, 2, 128),
        },
        "resnet": {
            "stem": (2, 16, 16, 8),
            "stages": ((2, 16, 16, 8), (2, 8, 8, 16), (2, 4, 4, 32)),
            "tokens": (2, 16, 32),
            "map": (2, 4, 4, 32),
        },
        "resnet_v2": {
            "stem": (2, 16, 16, 16),
            "stages": ((2, 16, 16, 64), (2, 8, 8, 128)),
            "tokens": (2, 64, 128),
            "map": (2, 8, 8, 128),
        },
        "wide_resnet": {
            "stem": (2, 16, 16, 16),
            "stages": ((2, 16, 16, 32), (2, 8, 8, 64), (2, 4, 4, 128)),
            "tokens": (2, 16, 128),
            "map": (2, 4, 4, 128),
        },
        "lenet": {
            "stem": (2, 14, 14, 6),
            "stages": ((2, 14, 14, 6), (2, 5, 5, 16), (2, 1, 1, 120)),
            "tokens": (2, 1, 120),
            "map": (2, 1, 1, 120),
        },
        "mlperf_resnet8": {
            "stem": (2, 16, 16, 16),
            "stages": ((2, 16, 16, 16), (2, 8, 8, 32), (2, 4, 4, 64)),
            "tokens": (2, 16, 64),
            "map": (2, 4, 4, 64),
        },
        "nin": {
            "stages": ((2, 8, 8, 8), (2, 4, 4, 16), (2, 4, 4, 16), (2, 4, 4, 16)),
            "tokens": (2, 16, 16),
            "map": (2, 4, 4, 16),
        },
        "linear": PIXELS,
        "identity": PIXELS,
        "mlp": {"stages": ((2, 16), (2, 8))},
        "cnn": {
            "layers": (
                *[(2, 16, 16, 8)] * 3,
                (2, 8, 8, 8),
                *[(2, 8, 8, 16)] * 2,
                (2, 4, 4, 16),
                (2, 256),
                *[(2, 24)] * 3,
            ),
            "stages": ((2, 8, 8, 8), (2, 4, 4, 16)),
            "tokens": (2, 16, 16),
            "map": (2, 4, 4, 16),
        },
        "mobilenet_v1": {
            "stem": (2, 8, 8, 8),
            "stages": ((2, 8, 8, 16), (2, 4, 4, 32)),
            "tokens": (2, 16, 32),
            "map": (2, 4, 4, 32),
        },
        "mobilenet_v2": {
            "stem": (2, 8, 8, 8),
            "stages": ((2, 8, 8, 8), (2, 4, 4, 32)),
            "tokens": (2, 16, 32),
            "map": (2, 4, 4, 32),
        },
        "mobilenet_v3": {
            "stem": (2, 8, 8, 8),
            "stages": ((2, 4, 4, 8), (2, 2, 2, 288)),
            "tokens": (2, 4, 288),
            "map": (2, 2, 2, 288),
        },
        "efficientnet": {
            "stem": (2, 8, 8, 8),
            "stages": ((2, 8, 8, 8), (2, 4, 4, 32)),
            "tokens": (2, 16, 32),
            "map": (2, 4, 4, 32),
        },
        "bit": {
            "stem": (2, 4, 4, 32),
            "stages": ((2, 4, 4, 128), (2, 2, 2, 256)),
            "tokens": (2, 4, 256),
            "map": (2, 2, 2, 256),
        },
    }.get(name)
    logits = out.pop("logits")
    if want is None:  # of a new model: the map is the last stage, and the tokens are its places
        want = jax.tree.map(lambda x: x.shape, out)
        assert want["map"] == want["stages"][-1]
        assert want["tokens"] == (2, want["map"][1] * want["map"][2], want["map"][3])
    assert jax.tree.map(lambda x: x.shape, out) == want
    assert {x.dtype for x in jax.tree.leaves(out)} == {jnp.dtype(dtype)}
    width = FEATURES.get(name) or want["tokens"][-1]
    assert (features.shape, features.dtype) == ((2, width), jnp.float32)
    if name not in UNTRAINED:
        assert variables["params"]["head"]["kernel"].shape == (width, 5)
    assert (logits.shape, logits.dtype) == ((2, 5), jnp.float32)


@pytest.mark.parametrize("name", HALF, scope="module")
def test_bfloat16_is_close_to_float32(small, images):
    name, model, variables = small
    half = models.build(name, 5, dtype=jnp.bfloat16, **SMALL[name])
    exact, _ = jax.jit(model.apply)(variables, images)
    close, _ = jax.jit(half.apply)(variables, images)
    assert jnp.abs(exact - close).max() < 0.03 * jnp.abs(exact).max()
    assert jnp.abs(exact - close).max() > 0


def test_gradients_are_finite_and_reach_every_parameter(small, images):
    name, model, variables = small
    if name in UNTRAINED:
        assert not variables
        return
    rest = {k: v for k, v in variables.items() if k != "params"}

    def loss(params, images):
        (_, out), _ = model.apply({"params": params, **rest}, images, train=True, mutable=["batch_stats"])
        return jnp.square(out["logits"] - 1).mean()

    gradient = jax.jit(jax.grad(loss))
    for scale in (1.0, 0.0, 1e3):  # a black image too
        gradients = gradient(variables["params"], scale * images)
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
    assert "head" not in variables.get("params", {})
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
        (("vit", 10), {"width": 18, "num_heads": 3, "posemb": "rope"}, "heads of a multiple of 4 channels, not 6"),
        (("vit", 10), {"distilled": True}, "set pool='token', not 'gap'"),
        (("vit", 10), {"distilled": True, "pool": "token", "rep_size": 8}, "takes no rep_size"),
        (("vit", 10), {"registers": -1}, "registers must be at least 0"),
        (("vit", 10), {"layer_scale": 0}, "layer_scale must be above 0"),
        (("vit", 10), {"parallel": "two"}, "unknown parallel 'two'. Choices: mlp, none, pairs"),
        (("vit", 10), {"patch_dropout": 1}, "patch_dropout is a rate"),
        (("vit", 10), {"init": "he"}, "unknown init"),
        (("mixer", 10), {"variant": "Ti/16"}, "unknown Mixer size 'Ti'. Choices: B, H, L, S"),
        (("mixer", 10), {"variant": "S"}, "a Mixer variant is a size and a patch side"),
        (("mixer", 10), {"tokens_dim": 0}, "tokens_dim must be above 0"),
        (("resmlp", 10), {"variant": "S13"}, "unknown ResMLP variant 'S13'"),
        (("resmlp", 10), {"layer_scale": 0}, "layer_scale must be above 0"),
        (("gmlp", 10), {"variant": "S"}, "a gMLP variant is a size and a patch side"),
        (("gmlp", 10), {"hidden": 65}, "hidden must be even"),
        (("cycle_mlp", 10), {"variant": "B6"}, "unknown CycleMLP variant 'B6'"),
        (("cycle_mlp", 10), {"blocks": (1, 2)}, "a number for each stage, not 2, 4, 4"),
        (("cycle_mlp", 10), {"ratios": (4, 4, 4, 0)}, "each of ratios must be above 0"),
        (("cycle_mlp", 10), {"channels": (3, 8, 8, 8)}, "at least 4 channels"),
        (("s2_mlp", 10), {"variant": "tall"}, "unknown S2-MLP variant 'tall'"),
        (("s2_mlp", 10), {"width": 30}, "width must be a multiple of 4"),
        (("convnext", 10), {"variant": "giant"}, "unknown ConvNeXt variant"),
        (("convnext", 10), {"layer_scale": -1.0}, "layer_scale must be above 0"),
        (("swin", 10), {"variant": "huge"}, "unknown Swin variant"),
        (("swin", 10), {"channels": 100}, "100 is not of 3: set num_heads"),
        (("swin", 10), {"window": 0}, "window must be above 0"),
        (("mvit_v2", 10), {"variant": "huge"}, "unknown MViT v2 variant"),
        (("mvit_v2", 10), {"num_heads": 5}, "96 is not of 5: set num_heads"),
        (("mvit_v2", 10), {"pretrained_size": 0}, "pretrained_size must be a whole number of at least 1, or None"),
        (("swin_v2", 10), {"variant": "large"}, "unknown Swin v2 variant"),
        (("swin_v2", 10), {"pretrained_window": 0}, "pretrained_window must be above 0"),
        (("clip_resnet", 10), {"variant": "RN50x2"}, "unknown CLIP ResNet variant 'RN50x2'; did you mean"),
        (("clip_resnet", 10), {"channels": 5}, "channels must be even"),
        (("resnet", 10), {"variant": 51}, "unknown ResNet variant '51'"),
        (("resnet", 10), {"stem": "cifar10"}, "did you mean 'cifar'"),
        (("resnet", 10), {"shortcut": "E"}, "unknown shortcut"),
        (("resnet", 10), {"stride_in": "2x2"}, "unknown stride_in"),
        (("resnet", 10), {"width": 0}, "width must be above 0"),
        (("resnet", 10), {"variant": "resnext50_32x8d"}, "did you mean 'resnext50_32x4d'"),
        (("resnet", 10), {"groups": 0}, "groups must be above 0"),
        (("resnet", 10), {"squeeze_excite": 0}, "squeeze_excite must be above 0"),
        (("resnet", 10), {"variant": 18, "groups": 32}, "ResNet-18 has none"),
        (("resnet", 10), {"shortcut": "none", "drop_path": 0.1}, "no drop_path"),
        (("resnet", 10), {"shortcut": "none", "zero_init_residual": True}, "no zero_init_residual"),
        (("resnet", 10), {"drop_path": 1}, "drop_path is a rate"),
        (("resnet_v2", 10), {"variant": 18}, "unknown ResNet v2 variant '18'"),
        (("wide_resnet", 10), {"variant": "28"}, "like '28-10', of 6 n + 4 layers, not '28'"),
        (("wide_resnet", 10), {"variant": "27-10"}, "not '27-10'"),
        (("wide_resnet", 10), {"dropout": -1}, "dropout is a rate"),
        (("lenet", 10), {"head_init": "one"}, "unknown head_init"),
        (("mlperf_resnet8", 10), {"head_init": "one"}, "unknown head_init"),
        (("linear", 10), {"head_init": "one"}, "unknown head_init"),
        (("mlp", 10), {"activation": "rely"}, "unknown activation 'rely'; did you mean 'relu'"),
        (("mlp", 10), {"activation": "relu|tanh"}, "an activation is one name"),
        (("mlp", 10), {"activation": "leaky_relu"}, "missing argument slope"),
        (("mlp", 10), {"hidden": (8, 0)}, "hidden[1] must be a whole number of at least 1"),
        (("mlp", 10), {"dropconnect": 1.0}, "dropconnect is a rate"),
        (("mlp", 10), {"kernel_init": "xavir"}, "did you mean 'xavier'"),
        (("cnn", 10), {}, "needs its layers: set model.layers="),
        (("cnn", 10), {"layers": "pool", "variant": "bn9"}, "and not both"),
        (("cnn", 10), {"variant": "bn8"}, "unknown variant of cnn 'bn8'; did you mean 'bn9'"),
        (("cnn", 10), {"layers": "conv(8)|rely"}, "unknown cnn layer 'rely'; did you mean 'relu'"),
        (("cnn", 10), {"layers": "conv"}, "cnn layer 'conv': missing argument channels. Usage: conv(channels, "),
        (("cnn", 10), {"layers": "conv(0)"}, "channels must be a whole number in [1, 1,048,576], not 0"),
        (("cnn", 10), {"layers": "dense(3)"}, "dense(3) takes a vector [b, d], and the layers before it give a map"),
        (("cnn", 10), {"layers": "flatten|conv(3)"}, "put it before flatten or global_pool"),
        (("cnn", 10), {"layers": "conv(3, name='a')|norm('a')"}, "the name 'a' is taken"),
        (("cnn", 10), {"layers": "gelu('erf')"}, "form must be 'exact' or 'tanh' or 'quick'"),
        (("nin", 10), {"blocks": 2}, "unknown blocks of NIN"),
        (("nin", 10), {"width": 0}, "width must be above 0"),
        (("alexnet", 10), {"variant": "2013"}, "unknown AlexNet variant '2013'"),
        (("zfnet", 10), {"dropout": 1.0}, "dropout is a rate"),
        (("vgg", 10), {"variant": "16bn"}, "unknown VGG variant '16bn'; did you mean '16_bn'"),
        (("vgg", 10), {"hidden": 0}, "hidden must be above 0"),
        (("googlenet", 10), {"variant": "v3"}, "unknown GoogLeNet variant 'v3'. Choices: v1, v1_bn, v2"),
        (("googlenet", 10), {"blocks": (1, 3)}, "numbers from 1 to (1, 2, 5, 2), stage by stage, not (1, 3)"),
        (("googlenet", 10), {"variant": "v2", "aux": True}, 'aux=True is for the variants "v1" and "v1_bn"'),
        (("inception", 10), {"variant": "v2"}, "unknown Inception variant 'v2'"),
        (("inception", 10), {"variant": "v4", "aux": True}, 'aux=True is for the variant "v3"'),
        (("inception", 10), {"blocks": (1, 1, 1, 9)}, "from 1 to (1, 3, 5, 3), stage by stage, not (1, 1, 1, 9)"),
        (("densenet", 10), {"variant": 122}, "unknown DenseNet variant '122'"),
        (("densenet", 10), {"stem": "deep"}, "unknown stem 'deep'. Choices: cifar, imagenet"),
        (("densenet", 10), {"growth": 0}, "growth must be above 0"),
        (("senet", 10), {"variant": 50}, "unknown SENet variant '50'"),
        (("nasnet", 10), {"variant": "small"}, "unknown NASNet variant"),
        (("nasnet", 10), {"channels": 6}, "channels of nasnet must be a multiple of 4, not 6"),
        (("darknet", 10), {"width": 0}, "width must be above 0"),
        (("mobilenet_v1", 10), {"width": 0}, "width must be above 0"),
        (("mobilenet_v1", 10), {"blocks": (1,) * 6}, "1 to 5 stages, not 6 numbers"),
        (("mobilenet_v2", 10), {"blocks": (1, 0)}, "each number of blocks must be a whole number of at least 1"),
        (("mobilenet_v2", 10), {"padding": "VALID"}, "unknown padding 'VALID'"),
        (("mobilenet_v3", 10), {"variant": "medium"}, "unknown MobileNet v3 variant"),
        (("mobilenet_v3", 10), {"hidden": 0}, "hidden must be above 0"),
        (("shufflenet", 10), {"groups": 5}, "unknown groups (without channels=)"),
        (("shufflenet", 10), {"channels": 50}, "of 3 groups is a multiple of 12, not 50"),
        (("shufflenet", 10), {"channels": 24}, "more than the 24 of the stem"),
        (("shufflenet_v2", 10), {"variant": "3.0"}, "unknown ShuffleNet v2 variant"),
        (("shufflenet_v2", 10), {"channels": 15}, "channels must be even"),
        (("efficientnet", 10), {"variant": "B8"}, "unknown EfficientNet variant 'B8'"),
        (("efficientnet", 10), {"norm_momentum": 1}, "norm_momentum is a rate"),
        (("bit", 10), {"variant": "R50x2"}, "unknown BiT variant"),
        (("bit", 10), {"width": 0.3}, "multiple of 32"),
        (("bit", 10), {"variant": "R8x1", "width": 0.3}, "stage 1 4.8 channels"),
        (("bit", 10), {"variant": "R8x1", "width": 2.25}, "a multiple of 32, for the groups"),
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
