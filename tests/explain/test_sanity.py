"""Randomised weights: the order of layers, what is replaced, and whose maps notice it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import explain, models, paths
from jaxvision.errors import UserError
from jaxvision.explain import sanity
from jaxvision.explain.base import Subject

IMAGES = np.random.default_rng(0).uniform(size=(4, 8, 8, 3)).astype(np.float32)
TARGETS = np.array([0, 1, 2, 0], np.int32)


def net(variables, images):
    """A convolution, ReLU, a mean and a classifier, whose names are not in the order of the layers."""
    params = variables["params"]
    x = jax.lax.conv_general_dilated(
        images - 0.5, params["z"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = jax.jit(lambda x, bias: jax.nn.relu(x + bias))(x, params["z"]["bias"])
    return {"logits": x.mean((1, 2)) @ params["a"]["kernel"], "map": x}


@pytest.fixture(scope="module")
def subject():
    rng = np.random.default_rng(1)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    params = {"a": {"kernel": draw(6, 3)}, "z": {"kernel": draw(3, 3, 3, 6), "bias": draw(6)}, "unused": draw(2)}
    return Subject(net, {"params": params, "batch_stats": draw(2)}, IMAGES, TARGETS, ("a", "b", "c"))


def test_layers_are_in_the_order_in_which_they_are_applied(subject):
    layers = sanity.weight_layers(net, subject.variables, IMAGES[:1])
    assert layers == {"z": ("z/kernel", "z/bias"), "a": ("a/kernel",)}
    for name, first, last in (("resnet", "stem_conv", "head"), ("vit", "embedding", "head")):
        options = dict(variant="8", width=0.25) if name == "resnet" else models.NAMES.small("vit")
        module = models.build(name, 3, **options)
        like = jax.ShapeDtypeStruct((1, 16, 16, 3), jnp.float32)
        variables = jax.eval_shape(lambda x, module=module: module.init(jax.random.key(0), x), like)
        found = sanity.weight_layers(lambda v, x, module=module: module.apply(v, x)[1], variables, like)
        assert sorted(path for of in found.values() for path in of) == sorted(paths.names(variables["params"]))
        assert (first in next(iter(found)), list(found)[-1]) == (True, last), list(found)


def test_random_weights_are_the_same_values_elsewhere(subject):
    changed = sanity.randomise(subject.variables, ["z/kernel"])
    before, after = (paths.flatten(variables) for variables in (subject.variables, changed))
    for name, values in before.items():
        assert (after[name] == values).all() == (name != "params/z/kernel"), name
    np.testing.assert_array_equal(np.sort(before["params/z/kernel"], None), np.sort(after["params/z/kernel"], None))
    again, other = (sanity.randomise(subject.variables, ["z/kernel", "z/bias"], seed) for seed in (0, 1))
    np.testing.assert_array_equal(again["params"]["z"]["kernel"], after["params/z/kernel"])
    assert (other["params"]["z"]["kernel"] != after["params/z/kernel"]).any()


def test_rank_correlation():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(3, 5, 5))
    others = np.stack([np.exp(maps[0]), -maps[1], np.full((5, 5), 2.0)])
    np.testing.assert_allclose(sanity.rank_correlation(maps, others), [1, -1, 0], atol=1e-12)


def test_steps_are_cascading_or_independent():
    variables = {"params": {name: np.arange(50.0) + 100 * i for i, name in enumerate("abc")}}
    layers = {name: (name,) for name in "abc"}
    tell = lambda changed: np.array([(changed["params"][n] != variables["params"][n]).any() for n in "abc"])
    found = sanity.randomised_maps(tell, variables, layers)
    assert {k: v.tolist() for k, v in found.items()} == {
        "c": [False, False, True],
        "b": [False, True, True],
        "a": [True, True, True],
    }
    found = sanity.randomised_maps(tell, variables, layers, cascade=False)
    np.testing.assert_array_equal(list(found.values()), np.eye(3, dtype=bool)[::-1])
    found = sanity.randomised_maps(tell, variables, layers, groups=2)
    assert {k: v.tolist() for k, v in found.items()} == {"b": [False, True, True], "a": [True, True, True]}


def test_maps_of_weights_change_and_a_map_of_the_image_does_not(subject, monkeypatch):
    for of in ("gradient", "gradcam"):
        shown = explain.get_explanation("randomised")(subject, of=of)
        assert [len(row.tiles) for row in shown.rows] == [4] * 4
        random = [tile.map for tile in shown.rows[0].tiles[2:]]
        trained = shown.rows[0].tiles[1].map
        assert abs(sanity.rank_correlation(np.stack([trained] * 2), np.stack(random))).max() < 0.9
        assert "| 2 | down to `z` |" in shown.text
    # An edge detector, which knows nothing of the network.
    edges = lambda subject: explain.base.Explanation("", "", [], abs(np.diff(subject.images, axis=1)).max(-1))
    monkeypatch.setattr(sanity, "make_maps", lambda subject, of: lambda other: edges(other).summary)
    shown = sanity.explain_randomised(subject)
    assert all(tile.words.endswith(": 1.00") for row in shown.rows for tile in row.tiles[2:])


def test_what_is_refused(subject):
    refuses = explain.EXPLANATIONS.more(sanity.explain_randomised, "refuses")
    assert refuses(subject) is refuses(subject, of="integrated(steps=2)", groups=3) is None
    assert refuses(subject, of="rollout") == "it is not a Vision Transformer"
    for of, message in (
        ("gradcan", "did you mean 'gradcam'"),
        ("filters", "makes no map for each image. Instruments that do: .*gradcam"),
        ("gradient|cam", "must name one instrument"),
        ("gradcam(layr='map')", "did you mean 'layer'"),
        ("gradcam('map')", "of: write the options of gradcam by name"),
    ):
        with pytest.raises(UserError, match=message):
            refuses(subject, of=of)


MAKERS = [name for name, make in explain.EXPLANATIONS.items() if explain.EXPLANATIONS.more(make, "maps")]
OF_VITS = ("attention", "rollout", "relevance")  # their tests are in test_attention.py


@pytest.mark.parametrize("name", [name for name in MAKERS if name not in OF_VITS])
def test_instruments_that_declare_maps_make_them(subject, name):
    assert explain.get_explanation(name)(subject, **explain.EXPLANATIONS.small(name)).summary.shape[0] == 4
