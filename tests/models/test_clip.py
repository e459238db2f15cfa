"""CLIP's towers: their sizes add up to the published models, and what is special to its ResNet."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.models.clip_resnet import AttentionPool2d, ClipBottleneck
from jaxvision.models.vit import ViT

VIT = {"pool": "token", "posemb": "learned", "pre_norm": True, "patch_bias": False, "scan": True}


def count(model, x):
    return sum(x.size for x in jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0), x)["params"]))


def text(size, embedding):
    """Parameters of a text tower, its projection without bias, and the temperature."""
    model = models.build_text("text_transformer", scan=True, **size)
    return count(model, jnp.zeros((1, 77), int)) + model.width * embedding + 1


@pytest.mark.parametrize(
    ("row", "variant", "text_size", "embedding"),
    [
        ("clip_vit_b32", "B/32", "M", 512),
        ("clip_vit_b16", "B/16", "M", 512),
        ("clip_vit_l14", "L/14", "B", 768),
        ("clip_vit_l14_336", "L/14", "B", 768),
    ],
)
def test_towers_and_projections_add_up_to_clip(reference, row, variant, text_size, embedding):
    image: ViT = models.build("vit", None, variant=variant, **VIT)
    size = reference[row]["input"]
    visual = count(image, jnp.zeros((1, size, size, 3))) + image.width * embedding
    assert visual == reference[row]["visual"]
    assert text({"variant": text_size}, embedding) == reference[row]["text_and_scale"]
    assert visual + reference[row]["text_and_scale"] == reference[row]["params"]


def test_towers_add_up_to_clip_rn50(reference):
    visual = count(models.build("clip_resnet", None, variant="RN50"), jnp.zeros((1, 224, 224, 3)))
    assert visual == reference["clip_rn50"]["visual"]
    assert visual + text({"variant": "M"}, 1024) == reference["clip_rn50"]["params"]


@pytest.mark.parametrize(
    ("variant", "image", "channels", "features"),
    [("RN50", 224, 2048, 1024), ("RN101", 224, 2048, 512), ("RN50x4", 288, 2560, 640)],
)
def test_resnet_stages_at_usual_sizes(variant, image, channels, features):
    model = models.build("clip_resnet", None, variant=variant)
    x = jnp.zeros((1, image, image, 3))
    pooled, out = jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x)[0], x)
    assert [s.shape[1] for s in out["stages"]] == [image // n for n in (4, 8, 16, 32)]
    assert out["map"].shape[-1] == channels
    assert pooled.shape == (1, features)


def test_a_new_block_adds_nothing_and_strides_by_averaging():
    x = jnp.abs(jax.random.normal(jax.random.key(0), (2, 8, 8, 16)))
    y, _ = jax.jit(lambda x: ClipBottleneck(4, 1, jnp.float32).init_with_output(jax.random.key(1), x, True))(x)
    np.testing.assert_array_equal(y, x)
    y, variables = jax.jit(lambda x: ClipBottleneck(4, 2, jnp.float32).init_with_output(jax.random.key(1), x, False))(x)
    averaged = x.reshape(2, 4, 2, 4, 2, 16).mean((2, 4)) @ variables["params"]["shortcut_conv"]["kernel"][0, 0]
    np.testing.assert_allclose(y, jax.nn.relu(averaged) / np.sqrt(1 + 1e-5), rtol=1e-4, atol=1e-5)


def test_attention_pooling_attends_from_the_mean(random_variables):
    """Against the same sum written out: one head, weights over the mean and all positions."""
    pool = AttentionPool2d(num_heads=1, features=3, attention="xla", dtype=jnp.float32)
    x = np.asarray(jax.random.normal(jax.random.key(0), (2, 2, 3, 4)))
    variables = random_variables(pool.init, x)
    p = variables["params"]
    tokens = x.reshape(2, 6, 4)
    tokens = np.concatenate([tokens.mean(1, keepdims=True), tokens], axis=1) + p["pos_embedding"]
    q, k, v = (
        tokens @ p["attention"][n]["kernel"][:, 0] + p["attention"][n]["bias"] for n in ("query", "key", "value")
    )
    weights = np.exp(q[:, :1] @ k.swapaxes(1, 2) / 2)
    pooled = (weights / weights.sum(-1, keepdims=True) @ v)[:, 0]
    want = pooled @ p["attention"]["out"]["kernel"][0] + p["attention"]["out"]["bias"]
    np.testing.assert_allclose(jax.jit(pool.apply)(variables, x), want, rtol=1e-4, atol=1e-5)
