"""The FLOPs of a step, as its MFU and the estimates count them."""

import jax
import jax.numpy as jnp
import pytest

from jaxvision import step_costs


def test_flops_of_a_matrix_product():
    a = jax.ShapeDtypeStruct((32, 64), jnp.float32)
    b = jax.ShapeDtypeStruct((64, 16), jnp.float32)
    assert step_costs.flops_of(jax.jit(jnp.matmul).trace(a, b)) == 2 * 32 * 64 * 16


def test_layers_of_a_scan_count_as_often_as_they_run():
    """XLA counts the body of a loop once, so the MFU of a scanned model would be several times too low."""
    x = jax.ShapeDtypeStruct((8, 64), jnp.float32)
    layers = jax.ShapeDtypeStruct((6, 64, 64), jnp.float32)

    def scanned(x, layers):
        return jax.lax.scan(lambda x, w: (x @ w, None), x, layers)[0]

    def unrolled(x, layers):
        for i in range(6):
            x = x @ layers[i]
        return x

    counts = [step_costs.flops_of(jax.jit(f).trace(x, layers)) for f in (scanned, unrolled)]
    assert counts[0] == 6 * 2 * 8 * 64 * 64
    assert counts[0] == pytest.approx(counts[1], rel=0.05)
