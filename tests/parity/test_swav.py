"""SwAV's loss with its assignments against lightly's, in value and gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.losses.sinkhorn import sinkhorn
from jaxvision.losses.swapped import swapped_prediction


@pytest.mark.parametrize("queued", [0, 10])
def test_it_is_lightly_s(torch, queued):
    lightly = pytest.importorskip("lightly.loss.swav_loss", reason="lightly is not installed", exc_type=Exception)
    rng = np.random.default_rng(0)
    scores = rng.uniform(-1, 1, (8, 5, 6)).astype(np.float32)  # b v k, of which two views are large
    earlier = rng.uniform(-1, 1, (queued, 2, 6)).astype(np.float32)
    views = [torch.tensor(scores[:, v], requires_grad=True) for v in range(5)]
    queue = [torch.tensor(earlier[:, v]) for v in range(2)] if queued else None
    theirs = lightly.SwaVLoss(temperature=0.1, sinkhorn_iterations=3, sinkhorn_epsilon=0.05)(
        views[:2], views[2:], queue
    )
    theirs.backward()

    def loss(scores):
        rows = jnp.concatenate([earlier, scores[:, :2]])
        targets = jnp.stack([sinkhorn(rows[:, v], 0.05, 3)[queued:] for v in range(2)], axis=1)
        return swapped_prediction(scores, targets, 0.1).mean()

    value, slope = jax.value_and_grad(loss)(jnp.asarray(scores))
    np.testing.assert_allclose(value, theirs.item(), rtol=1e-5)
    np.testing.assert_allclose(slope, np.stack([view.grad.numpy() for view in views], 1), rtol=1e-4, atol=1e-7)
