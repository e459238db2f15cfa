"""The transformer encoder: attention, MLP, block, and a stack of blocks, unrolled or scanned.

Parameters are float32 always. `dtype` is the type of the computation and of the residual stream;
softmax and normalisation statistics stay in float32 under bfloat16 too.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxvision.models.layers import Dropout, DropPath, LayerScale
from jaxvision.models.positions import rotate

GELUS = {
    "tanh": functools.partial(jax.nn.gelu, approximate=True),
    "exact": functools.partial(jax.nn.gelu, approximate=False),
    "quick": lambda x: x * jax.nn.sigmoid(1.702 * x),  # Hendrycks & Gimpel 2016, sec. 2
}
ATTENTIONS = ("xla", "cudnn")
NORM_EPSILON = 1e-6  # of every LayerNorm, unless an option says otherwise; Linen's
PARALLELS = ("none", "mlp", "pairs")
# What the backward pass finds stored of a block, beside the block's input.
REMATS = {
    "none": jax.checkpoint_policies.everything_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


class Deviations(NamedTuple):
    """Standard deviations of normally initialised kernels: of query, key and value; of what adds to the residual
    stream (the outputs of attention and MLP); of the MLP's hidden layer."""

    qkv: float
    residual: float
    hidden: float


class BlockOptions(NamedTuple):
    """Options of a transformer block, explained at `vit`; `causal` hides later tokens, `deviations` None is Xavier."""

    num_heads: int
    mlp_dim: int
    dropout: float = 0.0
    drop_path: float = 0.0
    gelu: str = "tanh"
    attention: str = "xla"
    causal: bool = False
    qk_norm: bool = False
    layer_scale: float | None = None
    parallel: str = "none"
    norm_epsilon: float = NORM_EPSILON
    deviations: Deviations | None = None


def kernel_init(deviation: float | None) -> nn.initializers.Initializer:
    """Xavier uniform (Glorot & Bengio 2010, eq. 16), or normal of this deviation."""
    return nn.initializers.xavier_uniform() if deviation is None else nn.initializers.normal(deviation)


class Attention(nn.Module):
    """Multi-head attention of `queries` [B, Q, D] over `tokens` [B, N, D] -> [B, Q, features or D].

    Kernels are [D, heads, D / heads] for query, key and value and [heads, D / heads, features] for the
    output, so that a sharding rule can split them by head. `angles` [N, D / heads / 2] or [B, N, D / heads / 2],
    where given, turn queries and keys (`positions.rotate`); `qk_norm` normalises both within each head, the
    scales being shared by the heads; `causal` lets token i attend to tokens 0 to i.

    Source: Vaswani et al. 2017, sec. 3.2; qk-norm: Dehghani et al. 2023, sec. 2, after Henry et al. 2020.
    """

    num_heads: int
    implementation: str = "xla"
    causal: bool = False
    qk_norm: bool = False
    norm_epsilon: float = NORM_EPSILON
    features: int | None = None
    deviations: Deviations | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, queries: jax.Array, tokens: jax.Array, angles: jax.Array | None = None) -> jax.Array:
        d = queries.shape[-1]
        qkv, residual, _ = self.deviations or (None, None, None)

        def project(name: str, x: jax.Array) -> jax.Array:
            heads = (self.num_heads, d // self.num_heads)
            x = nn.DenseGeneral(heads, kernel_init=kernel_init(qkv), dtype=self.dtype, name=name)(x)
            if self.qk_norm and name != "value":
                x = nn.LayerNorm(self.norm_epsilon, dtype=self.dtype, name=f"{name}_norm")(x)
            if angles is not None and name != "value":
                x = rotate(x, angles)
            return x  # b n heads d/heads

        # Softmax is in float32 whatever the dtype is.
        x = jax.nn.dot_product_attention(
            project("query", queries),
            project("key", tokens),
            project("value", tokens),
            is_causal=self.causal,
            implementation=self.implementation,
        )
        out = self.features or d
        init = kernel_init(residual)
        return nn.DenseGeneral(out, axis=(-2, -1), kernel_init=init, dtype=self.dtype, name="out")(x)


class Mlp(nn.Module):
    """The transformer's two-layer perceptron: [..., D] -> [..., D], with `width` hidden units and a GELU."""

    width: int
    dropout: float = 0.0
    gelu: str = "tanh"
    deviations: Deviations | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        _, residual, hidden = self.deviations or (None, None, None)
        dense = functools.partial(nn.Dense, bias_init=nn.initializers.normal(1e-6), dtype=self.dtype)
        y = dense(self.width, kernel_init=kernel_init(hidden), name="dense_0")(x)
        y = GELUS[self.gelu](y)
        y = Dropout(self.dropout)(y, train)
        return dense(x.shape[-1], kernel_init=kernel_init(residual), name="dense_1")(y)


class Block(nn.Module):
    """Pre-norm transformer encoder block: [B, N, D] -> [B, N, D]. Dosovitskiy et al. 2021, eq. 2-3.

    `parallel="mlp"` has the MLP beside the attention, after one norm (Dehghani et al. 2023, sec. 2; one layer scale
    and one draw of drop_path for both, as in timm's `ParallelScalingBlock`). `parallel="pairs"` has two attentions
    side by side, then two MLPs, each with its own norm (Touvron et al. 2022, "Three things", sec. 3; timm's
    `ParallelThingsBlock`); the names of the second of each end in `_2`.
    """

    options: BlockOptions
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: jax.Array, strength: float | jax.Array, train: bool, angles: jax.Array | None = None
    ) -> jax.Array:
        o = self.options
        drop_path = DropPath(o.drop_path)
        dropout = Dropout(o.dropout)

        def norm(name: str) -> jax.Array:
            return nn.LayerNorm(o.norm_epsilon, dtype=self.dtype, name=name)(x)

        def attend(y: jax.Array, suffix: str = "") -> jax.Array:
            attention = Attention(
                o.num_heads,
                o.attention,
                o.causal,
                o.qk_norm,
                o.norm_epsilon,
                deviations=o.deviations,
                dtype=self.dtype,
                name=f"attention{suffix}",
            )
            return dropout(attention(y, y, angles), train)

        def mlp(y: jax.Array, suffix: str = "") -> jax.Array:
            y = Mlp(o.mlp_dim, o.dropout, o.gelu, o.deviations, self.dtype, name=f"mlp{suffix}")(y, train)
            return dropout(y, train)

        def branch(y: jax.Array, name: str) -> jax.Array:
            if o.layer_scale is not None:
                y = LayerScale(o.layer_scale, self.dtype, name=name)(y)
            return drop_path(y, strength, train)

        if o.parallel == "mlp":
            y = norm("norm")
            return x + branch(attend(y) + mlp(y), "branch_scale")
        suffixes = ("", "_2") if o.parallel == "pairs" else ("",)
        x = x + sum(branch(attend(norm(f"attention_norm{s}"), s), f"attention_scale{s}") for s in suffixes)
        return x + sum(branch(mlp(norm(f"mlp_norm{s}"), s), f"mlp_scale{s}") for s in suffixes)


class Encoder(nn.Module):
    """Blocks, then (`final_norm`) a LayerNorm: [B, N, D] -> ([B, N, D], the tuple of what each block returned).

    Unrolled, the parameters are `block_00/...`, `block_01/...`; under scan they are `blocks/...` with
    a leading axis of length `depth`, and the random draws of dropout and drop_path are others.
    """

    block: Callable[..., nn.Module]
    depth: int
    scan: bool
    remat: str
    dtype: jnp.dtype
    norm_epsilon: float = NORM_EPSILON
    final_norm: bool = True

    @nn.compact
    def __call__(
        self, x: jax.Array, train: bool, *context: jax.Array | None
    ) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        """`context` is handed to every block: the angles of rotary positions."""

        def run(block, x, strength):
            x = block(x, strength, train, *context)
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
        if self.final_norm:
            x = nn.LayerNorm(self.norm_epsilon, dtype=self.dtype, name="norm")(x)
        return x, tuple(outputs)
