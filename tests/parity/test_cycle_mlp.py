"""CycleMLP's linear layers against torch: its bilinear sampling, and torchvision's deformable convolution.

The authors compute them by the latter, which needs torchvision's compiled operations.
"""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.models.cycle_mlp import staircase

pytestmark = pytest.mark.parity


def sampled(torch, x, offsets, weight, bias):
    """A 1x1 convolution of what each channel is at its offset; as channels differ, each is an image by itself."""
    b, c, h, w = x.shape
    rows = torch.arange(h).double()[:, None] + offsets[0, ::2]  # c h 1
    columns = torch.arange(w).double()[None] + offsets[0, 1::2]  # c 1 w
    places = torch.stack([columns.expand(c, h, w) * 2 / (w - 1) - 1, rows.expand(c, h, w) * 2 / (h - 1) - 1], dim=-1)
    grids = places.repeat(b, 1, 1, 1)  # b*c h w 2
    seen = torch.nn.functional.grid_sample(x.double().reshape(b * c, 1, h, w), grids, align_corners=True)
    return torch.nn.functional.conv2d(seen.reshape(b, c, h, w).float(), weight, bias)


def deformed(torch, x, offsets, weight, bias):
    from torchvision import extension, ops

    if not extension._has_ops():
        pytest.skip("torchvision was installed without its compiled operations")
    return ops.deform_conv2d(x, offsets.expand(len(x), -1, *x.shape[2:]), weight, bias)


@pytest.mark.parametrize("by", [sampled, deformed])
@pytest.mark.parametrize(("kernel", "axis"), [((1, 3), 2), ((3, 1), 1)])
def test_cycle_fc_equals_torchs(torch, by, kernel, axis):
    """With the offsets of github.com/ShoufaChen/CycleMLP, the same for all places."""
    c, steps = 8, max(kernel)
    x, weight, bias = torch.randn(2, c, 5, 4), torch.randn(6, c, 1, 1), torch.randn(6)
    offsets = torch.zeros(1, 2 * c, 1, 1)  # (down, across) of each channel in turn
    for channel in range(c):
        offsets[0, 2 * channel + axis - 1] = (channel + steps // 2) % steps - steps // 2
    want = by(torch, x, offsets, weight, bias).permute(0, 2, 3, 1).numpy()
    seen = staircase(jnp.asarray(x.permute(0, 2, 3, 1).numpy()), axis, steps)
    got = seen @ weight[:, :, 0, 0].numpy().T + bias.numpy()
    np.testing.assert_allclose(got, want, atol=5e-6 * np.abs(want).max(), rtol=0)
