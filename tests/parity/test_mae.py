"""MAE against torch: He et al.'s forward pass from timm's blocks, its loss and the gradient of all weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.models import weights
from jaxvision.models.masked import masked_patches
from jaxvision.tasks import get_task

pytestmark = pytest.mark.parity
WIDTH, DECODER, PATCH, SIZE = 32, 24, 4, 16
N = (SIZE // PATCH) ** 2


@pytest.fixture(scope="module")
def reference(torch):
    """An autoencoder with the authors' names: a ViT of timm, and a decoder of its blocks with lightly's positions."""
    import timm
    from timm.models.vision_transformer import Block
    from torch import nn

    utils = pytest.importorskip("lightly.models.utils", reason="lightly is not installed", exc_type=Exception)
    network = timm.create_model(
        "vit_tiny_patch16_224",
        img_size=SIZE,
        patch_size=PATCH,
        embed_dim=WIDTH,
        depth=2,
        num_heads=2,
        num_classes=0,
    )
    norm = functools.partial(nn.LayerNorm, eps=1e-6)
    network.decoder_embed = nn.Linear(WIDTH, DECODER)
    network.mask_token = nn.Parameter(torch.zeros(1, 1, DECODER))
    network.decoder_blocks = nn.Sequential(*(Block(DECODER, 3, norm_layer=norm, qkv_bias=True) for _ in range(2)))
    network.decoder_norm = norm(DECODER)
    network.decoder_pred = nn.Linear(DECODER, PATCH**2 * 3)
    positions = utils.get_2d_sine_cosine_positional_embedding(DECODER, SIZE // PATCH, cls_token=True)
    network.register_buffer("decoder_pos_embed", torch.tensor(np.asarray(positions), dtype=torch.float32)[None])
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(0.1 * torch.randn_like(parameter) + ("norm" in name and name.endswith("weight")))
    return network.eval()


def loss_of(torch, network, images, kept, normalized):
    """The loss and the predictions, from images [b, 3, h, w] and the kept patches [b, m]."""
    rows = torch.arange(len(images))[:, None]
    x = network.patch_embed(images) + network.pos_embed[:, 1:]
    first = (network.cls_token + network.pos_embed[:, :1]).expand(len(x), -1, -1)
    x = network.norm(network.blocks(torch.cat([first, x[rows, kept]], dim=1)))
    x = network.decoder_embed(x)
    tokens = network.mask_token.repeat(len(x), N, 1)
    tokens[rows, kept] = x[:, 1:]
    x = torch.cat([x[:, :1], tokens], dim=1) + network.decoder_pos_embed
    predictions = network.decoder_pred(network.decoder_norm(network.decoder_blocks(x)))[:, 1:]
    side = SIZE // PATCH
    patches = images.reshape(-1, 3, side, PATCH, side, PATCH).permute(0, 2, 4, 3, 5, 1).reshape(-1, N, PATCH**2 * 3)
    if normalized:
        from lightly.models.utils import normalize_mean_var

        patches = normalize_mean_var(patches)
    masked = torch.ones(len(x), N)
    masked[rows, kept] = 0
    return ((predictions - patches) ** 2).mean(-1).mul(masked).sum() / masked.sum()


@pytest.mark.parametrize("normalized", [True, False])
def test_loss_and_gradient_are_those_of_the_authors_forward_pass(torch, reference, normalized):
    vit = lambda classes: models.build(
        "vit", classes, variant="mu/4", depth=2, pool="token", posemb="learned", gelu="exact"
    )
    task = get_task("mae")(model=vit, decoder_width=DECODER, decoder_depth=2, decoder_heads=3, normalized=normalized)
    images = torch.randn(4, 3, SIZE, SIZE)
    batch = {"image": jnp.asarray(images.permute(0, 2, 3, 1).numpy())}
    shapes = jax.eval_shape(task.init, jax.random.key(0), batch)
    rng = jax.random.key(3)
    variables = fill(reference, shapes)
    drawn = jax.jit(task.pictures.draw)(variables, batch, jax.random.split(rng)[0])["masked"]
    same = (drawn == np.asarray(batch["image"])).reshape(4, 4, PATCH, 4, PATCH, 3).all(axis=(2, 4, 5)).reshape(4, N)
    kept = np.stack([np.flatnonzero(row) for row in same])
    assert kept.shape == (4, 4)
    assert masked_patches(jnp.asarray(kept), N).sum() == 48

    reference.zero_grad()
    want = loss_of(torch, reference, images, torch.tensor(kept), normalized)
    want.backward()
    (value, _), slope = jax.jit(jax.value_and_grad(task.loss, has_aux=True))(variables, batch, rng)
    np.testing.assert_allclose(value, want.item(), rtol=1e-5)
    gradients = fill(reference, shapes, gradients=True)
    scale = max(np.abs(x).max() for x in jax.tree.leaves(gradients))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5 * scale, rtol=1e-3), slope, gradients)


def fill(network, shapes, gradients=False):
    """The variables of our task from the reference's state, or from its gradients."""
    named = dict(network.named_parameters())
    arrays = {name: (x.grad if gradients else x.detach()).numpy() for name, x in named.items()}
    arrays["decoder_pos_embed"] = network.decoder_pos_embed.numpy()
    return weights.import_weights(arrays, "timm", "vit", shapes).variables
