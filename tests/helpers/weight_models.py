"""Small models of every kind whose weights can be exchanged, and random variables of their shapes."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxvision import models

TOKEN = {"pool": "token", "posemb": "learned"}
MU = {"variant": "mu/4", "depth": 2}
CLIP = TOKEN | {"pre_norm": True, "patch_bias": False}
TEXT = {"variant": "mu", "depth": 2, "vocab_size": 20, "length": 7}
PAIR = {"image": {"name": "vit", **MU, **CLIP}, "text": {"name": "text_transformer", **TEXT}, "embedding": 16}
RESNET_PAIR = PAIR | {"image": {"name": "clip_resnet"}, "embedding": 1024, "image_projection": "none"}
SIGLIP = PAIR | {"image": {"name": "vit", "pool": "map", "posemb": "learned", **MU}, "bias": -10.0}
SIGLIP |= {"embedding": 32, "image_projection": "none", "text_projection": "affine"}
EVERYTHING = {"distilled": True, "layer_scale": 1e-5, "qk_norm": True, "registers": 2, "pre_norm": True}


def build(name, options):
    if name in models.TEXT_NAMES:
        return models.build_text(name, **options)
    return models.build(name, None if name in models.PAIR_NAMES else 5, **options)


def abstract(name, options, size):
    """Shapes of a model's variables."""
    shape = (1, options["length"]) if name in models.TEXT_NAMES else (1, size, size, 1 if name == "lenet" else 3)
    inputs = jnp.zeros(shape, jnp.int32 if name in models.TEXT_NAMES else jnp.float32)
    tokens = [jnp.zeros((1, options["text"]["length"]), jnp.int32)] if name in models.PAIR_NAMES else []
    return jax.eval_shape(build(name, options).init, jax.random.key(0), inputs, *tokens)


def drawn(shapes):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)


def vit(**options):
    """Random variables of a small ViT with positions for 2x2 patches."""
    return drawn(abstract("vit", MU | TOKEN | options, 8))


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)
    return True
