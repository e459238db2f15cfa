"""The order of the layers of every model: what five regular expressions over the names of parameters once said."""

import re

import jax
import jax.numpy as jnp
import pytest

from jaxvision import models, paths
from jaxvision.errors import UserError
from jaxvision.models.order import layer_order
from jaxvision.optim import rules

# The rules of before models were asked, for the families that they knew (jaxvision/optim/rules.py at commit f671649).
NUMBERED = re.compile(r"(?:^|/)(?:block_|stage)(\d+)(?:/|$)")
INPUT = re.compile(
    r"(?:^|/)(?:embedding(?:_norm)?|pos_embedding|cls|distillation_token|registers|pre_norm|stem_(?:conv|norm)\d?)(?:/|$)"
)
OUTPUT = re.compile(
    r"(?:^|/)(?:(?:fc_)?norm|pool|pre_logits|projection|(?:distillation_)?head)(?:/|$)|^logit_(?:scale|bias)$"
)


def by_names(names):
    blocks = sorted({int(match[1]) for name in names if (match := NUMBERED.search(name))})

    def from_top(name):
        if match := NUMBERED.search(name):
            return len(blocks) - blocks.index(int(match[1]))
        if OUTPUT.search(name):
            return 0
        assert INPUT.search(name), name
        return len(blocks) + 1

    return {name: from_top(name) for name in names}


# Networks that those expressions did not know: with hidden layers, or with a norm inside the unit `stem_conv`.
HIDDEN = ("lenet", "alexnet", "zfnet", "vgg", "mobilenet_v3")
UNITS = ("googlenet", "inception", "darknet")
SMALL = ("linear", "identity", "mlp", "cnn")
VARIANTS = [
    *((name, models.NAMES.small(name)) for name in models.NAMES if name not in (*HIDDEN, *UNITS, *SMALL)),
    ("vit", {"variant": "mu/4", "depth": 12, "pool": "token", "distilled": True, "registers": 2, "pre_norm": True}),
    ("vit", {"variant": "mu/4", "depth": 2, "pool": "map", "posemb": "learned", "parallel": "pairs"}),
    ("vit", {"variant": "mu/4", "depth": 2, "class_token": True, "fc_norm": True, "posemb": "learned"}),
    ("vit", {"variant": "mu/4", "depth": 2, "pool": "token", "rep_size": 4, "projection_layers": 2}),
    ("resnet", {"variant": "18d", "width": 0.125}),
    ("convnext", {"blocks": (1, 1, 2, 1), "channels": 8, "patch": 2}),
]


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=lambda v: str(v)[:40])
def test_the_order_is_that_of_the_names(name, options):
    module = models.build(name, 5, **options)
    size = models.NAMES.more(models.NAMES[name], "image_size", 16)
    params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))["params"]
    params["projection"] = params.get("projection", {"kernel": jnp.zeros(1)})
    depths = rules.from_top(params, layer_order(module))
    assert {name: depth for name, (_, depth) in depths.items()} == by_names(paths.names(params))


@pytest.mark.parametrize("name", [name for name in models.NAMES if name != "identity"])  # which has no parameters
def test_every_model_tells_its_input_from_its_top(name):
    module = models.build(name, 5, **models.NAMES.small(name))
    size = models.NAMES.more(models.NAMES[name], "image_size", 16)
    params = jax.eval_shape(module.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))["params"]
    depths = {path: depth for path, (_, depth) in rules.from_top(params, layer_order(module)).items()}
    top = {path for path, depth in depths.items() if depth == 0}
    assert all(re.match(r"(encoder/)?norm/|pool/|head/", path) for path in top), top
    assert set(depths.values()) == set(range(max(depths.values()) + 1))


def test_small_nets_have_an_order():
    assert layer_order(models.build("linear", 5)) == {"": ()}
    assert layer_order(models.build("identity", 5)) == {"": ()}
    assert layer_order(models.build("mlp", 5, hidden=(8,))) == {"": (("dense1", "norm1", "act1"),)}
    spec = "norm|conv(8)|norm|prelu|pool|flatten|dense(8)|relu"
    groups = ("norm1",), ("conv1", "norm2", "act1"), ("dense1",)
    assert layer_order(models.build("cnn", 5, layers=spec)) == {"": groups}


def test_networks_with_hidden_layers_have_an_order_now():
    assert layer_order(models.build("lenet", 5)) == {"": (("c1",), ("c3",), ("c5",), ("f6",))}
    hidden = ("hidden/fc6",), ("hidden/fc7",)
    assert layer_order(models.build("alexnet", 5)) == {"": (("stem",), ("stage1",), ("stage2",), *hidden)}
    assert layer_order(models.build("zfnet", 5)) == layer_order(models.build("alexnet", 5))
    small = layer_order(models.build("mobilenet_v3", 5, blocks=(1,)))
    assert small[""][1:] == (("stage1",), ("stage2",), ("pre_logits",))
    stages = tuple((f"stage{i}",) for i in (1, 2, 3, 4, 5))
    assert layer_order(models.build("vgg", 5)) == {"": (*stages, *hidden)}


@pytest.mark.parametrize(("name", "stages"), [("googlenet", 4), ("inception", 4), ("darknet", 5)])
def test_norms_of_the_stem_are_at_the_input(name, stages):
    groups = layer_order(models.build(name, 5))[""]
    assert groups[1:] == tuple((f"stage{i}",) for i in range(1, stages + 1))
    params = {"stem_conv1": {"norm": {"scale": 0}}, "stem_conv": {"norm": {"scale": 0}}, "head": {"kernel": 0}}
    params |= {f"stage{i}": {"kernel": 0} for i in range(1, stages + 1)}
    depths = rules.from_top(params, {"": groups})
    assert depths["stem_conv1/norm/scale"] == depths["stem_conv/norm/scale"] == ("", stages + 1)


def test_each_tower_counts_its_own_layers():
    image = {"name": "vit", "variant": "mu/4", "depth": 3}
    module = models.build("two_towers", None, **models.PAIR_NAMES.small("two_towers") | {"image": image})
    inputs = jnp.zeros((1, 16, 16, 3)), jnp.zeros((1, 77), jnp.int32)
    params = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    depths = rules.from_top(params, layer_order(module))
    for tower in ("image_tower", "text_tower"):
        mine = {path: depth for path, (of, depth) in depths.items() if of == tower}
        wanted = by_names([path.removeprefix(f"{tower}/") for path in mine])
        assert mine == {f"{tower}/{path}": depth for path, depth in wanted.items()}
        assert max(mine.values()) == {"image_tower": 4, "text_tower": 2}[tower]
    assert depths["logit_scale"] == ("", 0)


def test_what_has_no_order_says_what_to_do():
    with pytest.raises(UserError, match="a scanned model has one array for all layers: set model.scan=False"):
        layer_order(models.build("vit", 5, variant="mu/4", depth=2, scan=True))
    with pytest.raises(UserError, match="the model object does not state it: give it a method layer_order"):
        layer_order(object())
