"""Attention of Vision Transformers as maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import explain, models
from jaxvision.errors import UserError
from jaxvision.explain import attention
from jaxvision.explain.base import Subject, score
from jaxvision.models.attention_maps import attended, class_attention
from jaxvision.models.transformer import Attention

IMAGES = jnp.asarray(np.random.default_rng(0).uniform(size=(2, 16, 16, 3)), jnp.float32)
TARGETS = jnp.array([1, 2])


def vit(**options):
    kept = dict(variant="mu/8", depth=2, width=16, num_heads=2, mlp_dim=16, head_init="normal", pool="token")
    module = models.build("vit", 3, **{**kept, **options})
    variables = jax.jit(lambda: module.init(jax.random.key(0), IMAGES, train=False))()
    variables = jax.tree.map(lambda x: x + 0.3 * jnp.sin(jnp.arange(x.size)).reshape(x.shape), variables)
    return module, variables, lambda variables, images: module.apply(variables, images, train=False)[1]


@pytest.fixture(scope="module")
def token():
    return vit(posemb="rope", qk_norm=True)


def test_the_weights_are_those_of_the_blocks(token):
    module, variables, outputs = token
    found = attention.attention(outputs, variables, IMAGES)
    assert [x.shape for x in found] == [(2, 2, 5, 5)] * 2
    np.testing.assert_allclose(np.stack(found).sum(-1), 1, atol=1e-5)
    expected = class_attention(module, variables, IMAGES)
    np.testing.assert_allclose(found[-1][:, :, 0, 1:].reshape(expected.shape), expected, atol=1e-6)


def test_rollout():
    eye = jnp.broadcast_to(jnp.eye(4), (2, 3, 4, 4))
    np.testing.assert_array_equal(attention.rollout([eye, eye]), np.broadcast_to(np.eye(4), (2, 4, 4)))
    weights = [jax.nn.softmax(jax.random.normal(jax.random.key(i), (2, 3, 4, 4))) for i in range(3)]
    found = np.asarray(attention.rollout(weights))
    np.testing.assert_allclose(found.sum(-1), 1, atol=1e-6)
    expected = np.eye(4)
    for of_block in weights:  # a naive loop, image 1
        expected = (np.asarray(of_block[1]).mean(0) + np.eye(4)) / 2 @ expected
    np.testing.assert_allclose(found[1], expected, atol=1e-6)


def test_relevance_of_one_block_is_the_gradient_times_the_attention():
    """The gradient with respect to the weights, by finite differences of one of them."""
    _, variables, outputs = vit(depth=1)
    found = attention.relevance(outputs, variables, IMAGES, TARGETS)
    (weights,) = attention.attention(outputs, variables, IMAGES)
    _, seen = attended(lambda: outputs(variables, IMAGES))
    (key,) = seen.weights

    def shifted(head, query, column, by):
        """The logits with one weight changed: what is mixed changes by the value of that token."""
        offset = jnp.zeros(seen.values[key].shape).at[:, query, head].set(by * seen.values[key][:, column, head])
        out, _ = attended(lambda: outputs(variables, IMAGES), {key: offset})
        return np.asarray(score(out, TARGETS))

    expected = np.zeros((2, 5))
    for column in range(5):
        for head in range(2):
            slope = (shifted(head, 0, column, 0.01) - shifted(head, 0, column, -0.01)) / 0.02
            expected[:, column] += np.maximum(slope * np.asarray(weights)[:, head, 0, column], 0) / 2
    expected[:, 0] += 1
    np.testing.assert_allclose(found[:, 0], expected, rtol=2e-2, atol=1e-4)


def test_the_parts(token):
    _, variables, outputs = token
    subject = Subject(outputs, variables, np.asarray(IMAGES), np.asarray(TARGETS), ("a", "b", "c"))
    assert attention._why_no_relevance(subject) is None
    refuses = explain.EXPLANATIONS.more(attention.explain_attention, "refuses")
    assert refuses(subject, block=1) is refuses(subject, block=-2) is None
    for block in (2, -3):
        with pytest.raises(UserError, match=f"block={block}.: the model has the blocks 0 to 1"):
            refuses(subject, block=block)
    for shown in (
        attention.explain_attention(subject),
        attention.explain_rollout(subject),
        attention.explain_relevance(subject),
    ):
        assert shown.summary.shape == (2, 2, 2)
        assert shown.summary.min() >= 0
    resnet = models.build("resnet", 3, variant="8", width=0.25)
    weights = jax.jit(lambda: resnet.init(jax.random.key(0), IMAGES, train=False))()
    other = subject._replace(outputs=lambda v, x: resnet.apply(v, x, train=False)[1], variables=weights)
    assert attention._why_not(other) == "it is not a Vision Transformer"
    _, variables, outputs = vit(scan=True)
    assert "model.scan" in attention._why_not(subject._replace(outputs=outputs, variables=variables))


def test_attention_with_a_bias():
    bias = jnp.linspace(-2, 2, 9).reshape(1, 3, 3)
    module = Attention(num_heads=1)
    x = jax.random.normal(jax.random.key(0), (2, 3, 4))
    variables = module.init(jax.random.key(1), x, x)
    _, found = attended(lambda: module.apply(variables, x, x, bias=bias))
    _, sown = module.apply(variables, x, x, None, bias, mutable=["intermediates"])
    np.testing.assert_allclose(*found.weights.values(), sown["intermediates"]["weights"][0], atol=1e-6)


@pytest.mark.parametrize("name", ["swin", "mvit_v2"])
def test_attention_within_windows_or_over_pooled_maps_is_not_shown(name):
    module = models.build(name, 3, **models.NAMES.small(name))
    variables = jax.jit(module.init)(jax.random.key(0), IMAGES)
    subject = Subject(lambda v, x: module.apply(v, x)[1], variables, np.asarray(IMAGES), np.asarray(TARGETS))
    for name in ("attention", "rollout", "relevance"):
        refuses = explain.EXPLANATIONS.more(explain.get_explanation(name), "refuses")
        assert refuses(subject) == "it is not a Vision Transformer", name
