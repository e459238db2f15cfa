"""What stands between an encoder and its user: the linear classifier and attention pooling."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models.transformer import Attention, Mlp

HEAD_INITS = {"zeros": nn.initializers.zeros, "normal": nn.initializers.normal(0.01)}


def linear_head(num_classes: int, init: str, bias: float = 0.0, name: str = "head") -> nn.Dense:
    """The classifier: features [..., D] -> float32 logits [..., K], computed in float32.

    Call it inside a module's compact method.

    Args:
      num_classes: K.
      init: the kernel's initialiser. "zeros" starts at the uniform prediction (Dosovitskiy et al.
        2021; Kolesnikov et al. 2020), "normal" has a deviation of 0.01 (Goyal et al. 2017, sec. 5.1).
      bias: its initial value. With a sigmoid loss over thousands of classes, -10 starts near the loss of
        predicting none, instead of ln 2 for each class (big_vision's configs for ImageNet-21k).
      name: of its parameters.
    """
    bias_init = nn.initializers.constant(bias)
    return nn.Dense(num_classes, kernel_init=HEAD_INITS[init], bias_init=bias_init, dtype=jnp.float32, name=name)


class AttentionPool(nn.Module):
    """Multi-head attention pooling (MAP): a learned query over tokens [B, N, D], then an MLP -> [B, D].

    Source: Zhai et al. 2022, sec. 3.3; the MLP and its residual as in their code, big_vision.
    """

    num_heads: int
    mlp_dim: int
    gelu: str = "tanh"
    attention: str = "xla"
    norm_epsilon: float = 1e-6
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool) -> jax.Array:
        b, _, d = tokens.shape
        probe = self.param("probe", nn.initializers.xavier_uniform(), (1, 1, d))
        probe = jnp.broadcast_to(probe, (b, 1, d)).astype(self.dtype)
        x = Attention(self.num_heads, self.attention, dtype=self.dtype, name="attention")(probe, tokens)
        y = nn.LayerNorm(self.norm_epsilon, dtype=self.dtype, name="norm")(x)
        return (x + Mlp(self.mlp_dim, gelu=self.gelu, dtype=self.dtype, name="mlp")(y, train))[:, 0]
