"""InfoNCE with a queue against lightly's NT-Xent with a memory bank, value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.losses.info_nce import against_queue

T = 0.2


def test_a_queue_is_lightlys_memory_bank(torch):
    losses = pytest.importorskip("lightly.loss", reason="lightly is not installed", exc_type=Exception)
    criterion = losses.NTXentLoss(temperature=T, memory_bank_size=(12, 8))
    queries, keys = torch.randn(5, 8, requires_grad=True), torch.randn(5, 8)
    criterion(torch.randn(5, 8, requires_grad=True), keys + 1)  # fills rows of the bank
    queue = criterion.memory_bank.bank.detach().numpy().T.copy()
    want = criterion(queries, keys)
    want.backward()

    def loss(queries):
        return against_queue(queries, jnp.asarray(keys.numpy()), jnp.asarray(queue), T)[0].mean()

    got, slope = jax.value_and_grad(loss)(jnp.asarray(queries.detach().numpy()))
    np.testing.assert_allclose(got, want.item(), rtol=1e-5)
    np.testing.assert_allclose(slope, queries.grad.numpy(), rtol=1e-3, atol=1e-6)
