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

GELUS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "tanh": functools.partial(jax.nn.gelu, approximate=True),
    "exact": functools.partial(jax.nn.gelu, approximate=False),
    "quick": lambda x: x * jax.nn.sigmoid(1.702 * x),  # Hendrycks & Gimpel 2016, sec. 2
}
ATTENTIONS = ("xla", "cudnn")
NORM_EPSILON = 1e-6  # default of every LayerNorm, as in Linen
PARALLELS = ("none", "mlp", "pairs")
# Values of a block that are stored for the backward pass, besides the block's input.
REMATS = {
    "none": jax.checkpoint_policies.everything_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    "full": jax.checkpoint_policies.nothing_saveable,
}


class Deviations(NamedTuple):
    """Standard deviations of normally initialised kernels.

    Attributes:
      qkv: Standard deviation of the kernels of query, key and value.
      residual: Standard deviation of the last kernels of attention and MLP, whose outputs add to the residual stream.
      hidden: Standard deviation of the kernel of the MLP's hidden layer.
    """

    qkv: float
    residual: float
    hidden: float


class BlockOptions(NamedTuple):
    """Options of a transformer block. `vit` documents the others.

    Attributes:
      causal: True to hide later tokens from each token.
      deviations: Standard deviations of normally initialised kernels; None for Xavier uniform.
    """

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
    """Returns an initialiser of kernels.

    Args:
      deviation: Standard deviation of a normal distribution; None for Xavier uniform (Glorot & Bengio 2010, eq. 16).
    """
    return nn.initializers.xavier_uniform() if deviation is None else nn.initializers.normal(deviation)


def gelu(x: jax.Array, form: str) -> jax.Array:
    """Computes a GELU.

    Args:
      x: Array, float [...].
      form: Form of the GELU, a key of `GELUS`.

    Returns:
      [...] of the type of x.

    >>> [round(x, 3) for x in gelu(jnp.array([-1.0, 0.0, 1.0]), "exact").tolist()]
    [-0.159, 0.0, 0.841]
    """
    function = GELUS[form]
    if jax.default_backend() == "cpu":
        # The backward pass computes the derivative from x. XLA's CPU backend would store other values beside x. Not
        # measured on other devices, whose compilers may join the derivative with the product before it.
        function = jax.checkpoint(function)
    return function(x)


def attend(
    query: jax.Array,
    key: jax.Array,
    value: jax.Array,
    causal: bool = False,
    implementation: str = "xla",
    bias: jax.Array | None = None,
    scale: float | None = None,
) -> jax.Array:
    """Computes softmax(scale * q k^T + bias) v for each head. The softmax is float32, even in bfloat16.

    Args:
      query: Queries, float [b, q, h, d]. With a bias there may be further axes before q, such as windows.
      key: Keys, float [b, n, h, d].
      value: Values, float [b, n, h, d].
      causal: True to let query i see keys 0 to i only.
      implementation: "xla", or "cudnn" for the fused kernel of NVIDIA GPUs.
      bias: Numbers that are added to the products, float32 [h, q, n] or of a shape that broadcasts to [b, h, q, n];
        -inf hides a key. None for none. A bias needs the implementation "xla".
      scale: Factor of the products; None for 1 / sqrt(d).

    Returns:
      Array [b, q, h, d] of the type of the queries.

    Source: Vaswani et al. 2017, eq. 1.

    >>> attend(jnp.zeros((1, 1, 1, 2)), jnp.zeros((1, 2, 1, 2)), jnp.arange(4.0).reshape(1, 2, 1, 2)).ravel().tolist()
    [1.0, 2.0]
    """
    on_cpu = jax.default_backend() == "cpu"
    if bias is None and (implementation != "xla" or not on_cpu):
        return jax.nn.dot_product_attention(  # type: ignore[call-overload]  # its implementation is a Literal there
            query, key, value, is_causal=causal, implementation=implementation, scale=scale
        )
    # The same with the heads first, and in float32 on a CPU, so that XLA's backend multiplies contiguous matrices there
    # (docs/performance.md). The sums of the softmax divide the result, not the weights, so that the backward pass needs
    # one array of the size of the scores, beside the mask.
    kind = jnp.dtype(jnp.float32) if on_cpu else query.dtype
    q, k, v = (x.swapaxes(-3, -2).astype(kind) for x in (query, key, value))  # b h n d
    scores = jnp.einsum("...qd,...nd->...qn", q, k, preferred_element_type=jnp.float32)
    scores *= q.shape[-1] ** -0.5 if scale is None else scale
    if bias is not None:
        scores += bias
    if causal:
        scores = jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, jnp.finfo(jnp.float32).min)
    weights = jnp.exp(scores - jax.lax.stop_gradient(scores.max(-1, keepdims=True)))
    cast = weights if kind == weights.dtype else weights.astype(kind)  # a cast to its own type would be stored, too
    mixed = jnp.einsum("...qn,...nd->...qd", cast, v, preferred_element_type=jnp.float32)
    return (mixed / weights.sum(-1, keepdims=True)).swapaxes(-3, -2).astype(query.dtype)


def attention_weights(
    query: jax.Array, key: jax.Array, causal: bool = False, bias: jax.Array | None = None
) -> jax.Array:
    """Computes softmax(q k^T / sqrt(d) + bias) for each head, the weights that `attend` gives to the values.

    Args:
      query: Queries, float [b, q, h, d].
      key: Keys, float [b, n, h, d].
      causal: True to let query i see keys 0 to i only.
      bias: Numbers that are added to the products, float32 [h, q, n] or as for `attend`; None for none.

    Returns:
      float32 [b, h, q, n]; rows sum to 1.

    >>> attention_weights(jnp.zeros((1, 1, 1, 2)), jnp.zeros((1, 4, 1, 2))).ravel().tolist()
    [0.25, 0.25, 0.25, 0.25]
    """
    scores = jnp.einsum("...qhd,...nhd->...hqn", query.astype(jnp.float32), key.astype(jnp.float32))
    scores *= query.shape[-1] ** -0.5
    if bias is not None:
        scores += bias
    if causal:
        scores = jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -jnp.inf)
    return jax.nn.softmax(scores)


class Attention(nn.Module):
    """Multi-head attention of `queries` [b, q, d] over `tokens` [b, n, d] -> [b, q, features or d].

    Kernels are [d, heads, d / heads] for query, key and value and [heads, d / heads, features] for the output, so that
    a sharding rule can split them by head. It is called with queries, tokens and, optionally, `angles`,
    [n, d / heads / 2] or [b, n, d / heads / 2], that turn queries and keys (`positions.rotate`), and a `bias` of the
    products, float32 [heads, q, n] or as for `attend`; with it there may be further axes before q and n, such as
    windows.

    Source: Vaswani et al. 2017, sec. 3.2; qk-norm: Dehghani et al. 2023, sec. 2, after Henry et al. 2020.

    Attributes:
      num_heads: Number of heads; it divides d.
      implementation: Implementation in `jax.nn.dot_product_attention`, "xla" or "cudnn".
      causal: True to let token i attend to tokens 0 to i only.
      qk_norm: True for LayerNorm on queries and keys within each head; the heads share its scales.
      norm_epsilon: Number that is added to the variance in these LayerNorms.
      features: Dimension of the result; None for d.
      deviations: Standard deviations of normally initialised kernels; None for Xavier uniform.
      dtype: Type of the computation, float32 or bfloat16; the softmax is float32.
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
    def __call__(
        self,
        queries: jax.Array,
        tokens: jax.Array,
        angles: jax.Array | None = None,
        bias: jax.Array | None = None,
    ) -> jax.Array:
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

        query, key, value = project("query", queries), project("key", tokens), project("value", tokens)
        if self.is_mutable_collection("intermediates"):
            self.sow("intermediates", "weights", attention_weights(query, key, self.causal, bias))
        x = attend(query, key, value, self.causal, self.implementation, bias)
        out = self.features or d
        init = kernel_init(residual)
        return nn.DenseGeneral(out, axis=(-2, -1), kernel_init=init, dtype=self.dtype, name="out")(x)


class Mlp(nn.Module):
    """The transformer's two-layer perceptron with a GELU: [..., d] -> [..., d].

    Attributes:
      width: Number of hidden units.
      dropout: Rate of dropout after the GELU, in [0, 1).
      gelu: Form of the GELU, a key of `GELUS`.
      deviations: Standard deviations of normally initialised kernels; None for Xavier uniform.
      dtype: Type of the computation, float32 or bfloat16.
    """

    width: int
    dropout: float = 0.0
    gelu: str = "tanh"
    deviations: Deviations | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Maps x [b, n, d] to the same shape."""
        _, residual, hidden = self.deviations or (None, None, None)
        dense = functools.partial(nn.Dense, bias_init=nn.initializers.normal(1e-6), dtype=self.dtype)
        y = dense(self.width, kernel_init=kernel_init(hidden), name="dense_0")(x)
        y = gelu(y, self.gelu)
        y = Dropout(self.dropout)(y, train)
        return dense(x.shape[-1], kernel_init=kernel_init(residual), name="dense_1")(y)


class TransformerBlock(nn.Module):
    """Pre-norm transformer encoder block: [b, n, d] -> [b, n, d]. Dosovitskiy et al. 2021, eq. 2-3.

    `parallel="mlp"` computes MLP and attention side by side, after one norm (Dehghani et al. 2023, sec. 2), with one
    layer scale and one draw of drop_path for both, as in timm's `ParallelScalingBlock`. `parallel="pairs"` has two
    attentions side by side, then two MLPs side by side, each with its own norm (Touvron et al. 2022, "Three things",
    sec. 3; timm's `ParallelThingsBlock`). The parameters of the second of each pair have names that end in `_2`.

    Attributes:
      options: Options of the block.
      dtype: Type of the computation and the residual stream, float32 or bfloat16.
    """

    options: BlockOptions
    dtype: jnp.dtype

    @nn.compact
    def __call__(
        self, x: jax.Array, strength: float | jax.Array, train: bool, angles: jax.Array | None = None
    ) -> jax.Array:
        """Maps x [b, n, d] to the same shape.

        Args:
          x: Tokens [b, n, d].
          strength: Share of `drop_path` that applies to this block, a scalar in [0, 1].
          train: True for training.
          angles: Angles of rotary positions, [n, head_dim / 2]; None without them.
        """
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
    """Blocks, then a LayerNorm: tokens [b, n, d] -> (tokens [b, n, d], the tuple of each block's output [b, n, d]).

    Unrolled, the parameters are `block_00/...`, `block_01/...`. Under scan they are `blocks/...` with a leading axis of
    length `depth`, and dropout and drop_path draw other random numbers.

    Attributes:
      block: Factory of a block, without its name.
      depth: Number of blocks.
      scan: True to loop over blocks with stacked parameters.
      remat: Part of a block that the backward pass computes again, a key of `REMATS`.
      dtype: Type of the computation and the residual stream, float32 or bfloat16.
      norm_epsilon: Number that is added to the variance in the final LayerNorm.
      final_norm: True for a LayerNorm after the last block.
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
        """Applies the blocks to x [b, n, d]; each gets `context`, the angles [n, head_dim / 2] of rotary positions."""

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
