"""From an image to a grid of patches, and from patches to tokens."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxvision.errors import UserError
from jaxvision.models.positions import linear_weights


def patchify(images: jax.Array, patch: int) -> jax.Array:
    """Cuts images into a grid of patches.

    Args:
      images: Images, [b, h, w, c] with h and w multiples of `patch`.
      patch: Side of a patch in pixels.

    Returns:
      Patches, [b, h / patch, w / patch, patch * patch * c]; the pixels of a patch are in row-major order, as in a
      convolution kernel [patch, patch, c, d] that is reshaped to [patch * patch * c, d].

    Raises:
      UserError: An image that is not a whole number of patches.

    >>> patchify(jnp.arange(16).reshape(1, 4, 4, 1), 2)[0, 0].tolist()
    [[0, 1, 4, 5], [2, 3, 6, 7]]
    """
    b, height, width, c = images.shape
    if height % patch or width % patch:
        raise UserError(f"images of {height}x{width} pixels cannot be cut into patches of {patch}x{patch}")
    x = images.reshape(b, height // patch, patch, width // patch, patch, c)
    return x.swapaxes(2, 3).reshape(b, height // patch, width // patch, patch * patch * c)


def unpatchify(patches: jax.Array, grid: tuple[int, int]) -> jax.Array:
    """Puts patches together to images; undoes `patchify`.

    Args:
      patches: Patches, [b, n, patch * patch * c] with n = h * w, in row-major order.
      grid: Grid (h, w) of the patches.

    Returns:
      Images of three channels, [b, h * patch, w * patch, 3].

    >>> images = jnp.arange(48.0).reshape(1, 4, 4, 3)
    >>> bool((unpatchify(patchify(images, 2).reshape(1, 4, 12), (2, 2)) == images).all())
    True
    """
    h, w = grid
    side = math.isqrt(patches.shape[-1] // 3)
    x = patches.reshape(-1, h, w, side, side, 3).swapaxes(2, 3)  # b h side w side 3
    return x.reshape(-1, h * side, w * side, 3)


def resize_patches(kernel: jax.Array, patch: int) -> jax.Array:
    """Resizes the kernel of a patch embedding so that resized patches give the same tokens as before (PI-resize).

    With B the matrix of bilinear resizing (no antialiasing) from the old patch to the new one, the new kernel w' is
    the pseudo-inverse of B^T times the old one, w. For a larger patch, <B x, w'> = <x, w> for every patch x. For a
    smaller one, it is the least-squares solution for white noise.

    Args:
      kernel: Kernel of the patch embedding, float [p, p, c, d].
      patch: New side of a patch in pixels.

    Returns:
      float [patch, patch, c, d].

    Source: Beyer et al. 2023 (FlexiViT), sec. 3.4; antialiasing is off as in its code. timm's `resample_patch_embed`
    resizes with an antialiased bicubic filter by default.

    >>> resize_patches(jnp.ones((2, 2, 1, 1)), 4).sum().round(3).item()
    4.0
    """
    old = kernel.shape[0]
    if patch == old:
        return kernel
    resize = linear_weights((np.arange(patch) + 0.5) * old / patch - 0.5, old)  # patch old
    inverse = jnp.asarray(np.linalg.pinv(resize.T), kernel.dtype)  # B is a Kronecker product, so its inverse is too
    return jnp.einsum("ap,bq,pqcd->abcd", inverse, inverse, kernel, precision="highest")


class PatchEmbedding(nn.Module):
    """Linear embedding of patches: [b, h, w, c] -> [b, h, w, width].

    It is a convolution with a stride of its size, and has the kernel of one, but is written as a matrix product: XLA's
    CPU backend runs a convolution's gradient slowly inside a scan over steps.

    Attributes:
      width: Dimension of a token.
      patch: Side of a patch in pixels.
      dtype: Type of the computation, float32 or bfloat16.
      bias: True for a learned offset.
      base: Side of the patches that the stored kernel is for; `resize_patches` fits it to `patch`. None for `patch`.
      kernel_init: Initialiser of the kernel.
    """

    width: int
    patch: int
    dtype: jnp.dtype
    bias: bool = True
    base: int | None = None
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Maps images [b, height, width, c] to tokens [b, height / patch, width / patch, width]."""
        side = self.base or self.patch
        kernel = self.param("kernel", self.kernel_init, (side, side, images.shape[-1], self.width))
        kernel = resize_patches(kernel, self.patch)
        x = patchify(images.astype(self.dtype), self.patch) @ kernel.reshape(-1, self.width).astype(self.dtype)
        if self.bias:
            x = x + self.param("bias", nn.initializers.zeros, (self.width,)).astype(self.dtype)
        return x
