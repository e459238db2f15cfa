"""The transformer encoder: attention, MLP, block, and a stack of blocks, unrolled or scanned.

Parameters are float32 always. `dtype` is the type of the computation and of the residual stream;
softmax and normalisation statistics stay in float32 under bfloat16 too.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models.layers import DropPath

GELUS = {"tanh": True, "exact": False}  # is it the approximation?
ATTENTIONS = ("xla", "cudnn")
# What the backward pass finds stored of a block, beside the block's input.
REMATS = {
    "none": jax.checkpoint_policies.everything_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


class Attention(nn.Module):
    """Multi-head attention of `queries` [B, Q, D] over `tokens` [B, N, D] -> [B, Q, D].

    Kernels are [D, heads, D / heads] for query, key and value and [heads, D / heads, D] for the
    output, so that a sharding rule can split them by head.

    Source: Vaswani et al. 2017, sec. 3.2.
    """

    num_heads: int
    implementation: str = "xla"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, queries: jax.Array, tokens: jax.Array) -> jax.Array:
        d = queries.shape[-1]
        init = nn.initializers.xavier_uniform()

        def project(name: str, x: jax.Array) -> jax.Array:
            heads = (self.num_heads, d // self.num_heads)
            return nn.DenseGeneral(heads, kernel_init=init, dtype=self.dtype, name=name)(x)  # b n heads d/heads

        # Softmax is in float32 whatever the dtype is.
        x = jax.nn.dot_product_attention(
            project("query", queries),
            project("key", tokens),
            project("value", tokens),
            implementation=self.implementation,
        )
        return nn.DenseGeneral(d, axis=(-2, -1), kernel_init=init, dtype=self.dtype, name="out")(x)


class Mlp(nn.Module):
    """The transformer's two-layer perceptron: [..., D] -> [..., D], with `width` hidden units and a GELU."""

    width: int
    dropout: float = 0.0
    gelu: str = "tanh"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        init = {"kernel_init": nn.initializers.xavier_uniform(), "bias_init": nn.initializers.normal(1e-6)}
        y = nn.Dense(self.width, dtype=self.dtype, name="dense_0", **init)(x)
        y = jax.nn.gelu(y, approximate=GELUS[self.gelu])
        y = nn.Dropout(self.dropout, deterministic=not train)(y)
        return nn.Dense(x.shape[-1], dtype=self.dtype, name="dense_1", **init)(y)


class Block(nn.Module):
    """Pre-norm transformer encoder block: [B, N, D] -> [B, N, D]. Dosovitskiy et al. 2021, eq. 2-3."""

    num_heads: int
    mlp_dim: int
    dropout: float
    drop_path: float
    gelu: str
    attention: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, strength: float | jax.Array, train: bool) -> jax.Array:
        drop_path = DropPath(self.drop_path)
        dropout = nn.Dropout(self.dropout, deterministic=not train)
        y = nn.LayerNorm(dtype=self.dtype, name="attention_norm")(x)
        y = Attention(self.num_heads, self.attention, dtype=self.dtype, name="attention")(y, y)
        x = x + drop_path(dropout(y), strength, train)
        y = nn.LayerNorm(dtype=self.dtype, name="mlp_norm")(x)
        y = Mlp(self.mlp_dim, self.dropout, self.gelu, self.dtype, name="mlp")(y, train)
        return x + drop_path(dropout(y), strength, train)


class Encoder(nn.Module):
    """Blocks, then a LayerNorm: [B, N, D] -> ([B, N, D], the tuple of what each block returned).

    Unrolled, the parameters are `block_00/...`, `block_01/...`; under scan they are `blocks/...` with
    a leading axis of length `depth`, and the random draws of dropout and drop_path are others.
    """

    block: Callable[..., nn.Module]
    depth: int
    scan: bool
    remat: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        def run(block, x, strength):
            x = block(x, strength, train)
            return x, x

        if self.remat != "none":
            run = nn.remat(run, policy=REMATS[self.remat], prevent_cse=not self.scan)
        strengths = [i / max(self.depth - 1, 1) for i in range(self.depth)]  # Huang et al. 2016, sec. 3: linear decay
        if self.scan:
            run = nn.scan(run, variable_axes={"params": 0}, split_rngs={"params": True, "dropout": True})
            x, outputs = run(self.block(name="blocks"), x, jnp.array(strengths))
        else:
            outputs = []
            for i, strength in enumerate(strengths):
                x, _ = run(self.block(name=f"block_{i:02}"), x, strength)
                outputs.append(x)
        return nn.LayerNorm(dtype=self.dtype, name="norm")(x), tuple(outputs)
