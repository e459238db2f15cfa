"""DropConnect: Wan et al. 2013, "Regularization of neural networks using DropConnect"."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp


class DropConnectDense(nn.Module):
    """Fully connected layer that drops each of its weights at random in training: [b, d] -> [b, features].

    Every example has a mask of its own, over kernel and bias, drawn from the "dropout" key. The weights that stay are
    scaled up by 1 / (1 - rate), so the mean output is that of the whole layer, which evaluation uses. The paper does
    not scale, and evaluates with the mean of the activation over a normal distribution that has the moments of the
    masked sums (sec. 3.3); for a linear activation the two are the same.

    The masks of a batch take b * d * features numbers.

    Attributes:
      features: Number of output units.
      rate: Probability in [0, 1) that a weight is dropped; at 0 the layer is `nn.Dense`.
      kernel_init: Initialiser of the kernel.
      dtype: Type of the computation, float32 or bfloat16.

    Source: Wan et al. 2013, sec. 3, eq. 3.
    """

    features: int
    rate: float
    kernel_init: Callable = nn.initializers.lecun_normal()
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, d] to [b, features]."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features)).astype(self.dtype)
        bias = self.param("bias", nn.initializers.zeros, (self.features,)).astype(self.dtype)
        x = x.astype(self.dtype)
        if not train or not self.rate:
            return x @ kernel + bias
        keep = 1 - self.rate
        of_kernel, of_bias = jax.random.split(self.make_rng("dropout"))
        kept = jax.random.bernoulli(of_kernel, keep, (len(x), *kernel.shape))  # b d f
        y = jnp.einsum("bd,bdf->bf", x, jnp.where(kept, kernel, 0))
        y += jnp.where(jax.random.bernoulli(of_bias, keep, y.shape), bias, 0)
        return y / jnp.asarray(keep, self.dtype)
