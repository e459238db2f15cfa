"""DINO and DINOv2 against lightly's losses, value and gradient, and against timm's networks with the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.losses import self_distillation as losses
from jaxvision.models import weights
from jaxvision.models.weights import mapping

pytestmark = pytest.mark.parity
B, G, V, K = 4, 2, 5, 7


@pytest.fixture(scope="module")
def lightly(torch):
    return pytest.importorskip("lightly.loss", reason="lightly is not installed", exc_type=Exception)


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(B, n, K)).astype(np.float32) for n in (V, G)]


def close(mine, theirs):
    np.testing.assert_allclose(mine, np.asarray(theirs), rtol=1e-4, atol=1e-5)


def test_loss_and_centre_are_lightlys(torch, lightly, scores):
    student, teacher = scores
    theirs = lightly.DINOLoss(K, teacher_temp=0.05)
    theirs.center = torch.linspace(-1, 1, K)[None, None]
    views = [torch.tensor(student[:, v], requires_grad=True) for v in range(V)]
    value = theirs([torch.tensor(teacher[:, g]) for g in range(G)], views)
    value.backward()

    centre = jnp.linspace(-1, 1, K)
    targets = losses.centred(jnp.asarray(teacher), centre, 0.05)
    mine, slope = jax.value_and_grad(lambda s: losses.cross_view_entropy(s, targets).mean())(jnp.asarray(student))
    close(mine, value.detach())
    close(slope, np.stack([view.grad for view in views], axis=1))
    close(losses.moved_centre(centre, teacher.mean((0, 1)), 0.9), theirs.center.squeeze())


def test_koleo_is_lightlys(torch, lightly):
    x = np.random.default_rng(1).normal(size=(8, 5)).astype(np.float32)
    features = torch.tensor(x, requires_grad=True)
    value = lightly.KoLeoLoss()(features)
    value.backward()
    mine, slope = jax.value_and_grad(losses.koleo)(jnp.asarray(x))
    close(mine, value.detach())
    close(slope, features.grad)


@pytest.mark.parametrize("architecture", ["vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2"])
def test_networks_are_timms(torch, architecture):
    import timm

    small = dict(img_size=28, embed_dim=128, depth=2, num_heads=2)
    theirs = timm.create_model(architecture, **small).eval()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.copy_(0.1 * torch.randn_like(parameter) + ("norm" in name and name.endswith("weight")))
    arrays = {name: x.numpy() for name, x in theirs.state_dict().items()}
    options = mapping.options(arrays, "timm", "vit")
    assert options["registers" if "reg4" in architecture else "layer_scale"]
    options |= dict(variant="S/14", width=128, depth=2, num_heads=2, gelu="exact")
    module = models.build("vit", None, **options)
    images = np.random.default_rng(2).normal(size=(2, 28, 28, 3)).astype(np.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), images)
    imported = weights.import_weights(arrays, "timm", "vit", shapes, head="drop")
    features, _ = jax.jit(module.apply)(imported.variables, images)
    with torch.no_grad():
        expected = theirs(torch.tensor(images).permute(0, 3, 1, 2))
    np.testing.assert_allclose(features, expected.numpy(), rtol=1e-3, atol=1e-4)


def test_patch_loss_is_lightlys(torch, lightly):
    rng = np.random.default_rng(3)
    student, teacher = (rng.normal(size=(B, 9, K)).astype(np.float32) for _ in range(2))
    masked = rng.random((B, 3, 3)) < 0.4
    masked[1] = False
    chosen = masked.reshape(B, 9)
    predictions = torch.tensor(student[chosen], requires_grad=True)
    value = lightly.IBOTPatchLoss(K, teacher_temp=0.05)(
        torch.tensor(teacher[chosen]), predictions, torch.tensor(masked)
    )
    value.backward()
    targets = losses.centred(jnp.asarray(teacher), jnp.zeros(K), 0.05)
    of = lambda s: losses.masked_entropy(s, targets, jnp.asarray(chosen)).mean()
    mine, slope = jax.value_and_grad(of)(jnp.asarray(student))
    close(mine, value.detach())
    close(slope[chosen], predictions.grad)
    assert not np.any(slope[~chosen])
