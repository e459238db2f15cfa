"""The head of DINO against its equations, and what of it is learned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from jaxvision.models.dino_head import DinoHead


@pytest.mark.parametrize("fixed_norm", [True, False])
def test_an_mlp_then_unit_vectors(fixed_norm):
    head, x = DinoHead(6, layers=3, hidden=5, bottleneck=4, fixed_norm=fixed_norm), jnp.asarray(np.eye(3) * 2)
    params = head.init(jax.random.key(0), x)["params"]
    assert ("scale" in params["last_layer"]) is not fixed_norm
    params = jax.tree.map(lambda p: np.asarray(p) + 0.1 * np.sin(np.arange(p.size)).reshape(p.shape), params)
    y = np.asarray(x)
    for i in range(3):
        y = y @ params[f"dense_{i}"]["kernel"] + params[f"dense_{i}"]["bias"]
        if i < 2:
            y = y * 0.5 * (1 + erf(y / np.sqrt(2)))
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    kernel = params["last_layer"]["kernel"]
    columns = kernel / np.linalg.norm(kernel, axis=0) * params["last_layer"].get("scale", 1)
    embedded = head.apply({"params": params}, x, method="embed")
    np.testing.assert_allclose(embedded, y, rtol=1e-4, atol=1e-6)
    for scores in (head.apply({"params": params}, embedded, method="score"), head.apply({"params": params}, x)):
        np.testing.assert_allclose(scores, y @ columns, rtol=1e-4, atol=1e-5)


def test_a_bottleneck_of_zeros_has_a_finite_gradient():
    head = DinoHead(6, hidden=5, bottleneck=4)
    params = head.init(jax.random.key(0), jnp.ones((1, 3)))["params"]
    grads = jax.grad(lambda p: head.apply({"params": p}, jnp.zeros((2, 3))).sum())(params)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
