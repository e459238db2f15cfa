"""What a Vision Transformer attends to: its class token in the last block, or every token in every block."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from jaxvision.errors import UserError
from jaxvision.models.heads import Projected
from jaxvision.models.positions import rotate
from jaxvision.models.transformer import Attention, Encoder, attention_weights
from jaxvision.models.vit import ViT


def class_attention(module: nn.Module, variables: Any, images: jax.Array) -> jax.Array:
    """Computes how much the class token attends to each patch in the last block (Caron et al. 2021, fig. 1).

    Args:
      module: Model that `why_no_maps` has nothing against.
      variables: Variables of the model; others beside them are ignored.
      images: Images, float [b, height, width, 3].

    Returns:
      Weights by head, float32 [b, heads, h, w]. Their sum over the patches is below 1: the rest goes to the class token
      itself and to registers.
    """
    vit = _trunk(module)
    (_, out), found = vit.apply(variables, images, train=False, mutable=["intermediates"])
    (weights,) = found["intermediates"]["encoder"][f"block_{vit.depth - 1:02}"]["attention"]["weights"]
    b, h, w, _ = out["map"].shape
    return weights[:, :, 0, -h * w :].reshape(b, -1, h, w)


def why_no_maps(module: nn.Module) -> str | None:
    """Returns why `class_attention` cannot be computed, as the end of a sentence on the model; None if it can.

    Args:
      module: Model from `models.build`.
    """
    vit = _trunk(module)
    if not isinstance(vit, ViT):
        return "it is not a Vision Transformer"
    if not vit.class_token:
        return "it has no class token"
    if vit.scan:
        return "its blocks are scanned, so no block can be looked into"
    return None


def _trunk(module: nn.Module) -> nn.Module:
    return module.backbone if isinstance(module, Projected) else module


class Attended(NamedTuple):
    """What the attention of a network was, in a call.

    Attributes:
      weights: Weights of each self-attention by its path in the network, float32 [b, heads, n, n] with rows that sum to
        1, from the input on.
      values: Values of each, float [b, n, heads, d].
    """

    weights: dict[str, jax.Array]
    values: dict[str, jax.Array]


def attended(call: Callable[[], Any], offsets: Mapping[str, jax.Array] | None = None) -> tuple[Any, Attended]:
    """Calls a function that applies a network, and returns the weights of every self-attention in it beside its result.

    Attention within windows, as in Swin, is left out: its tokens are not those of the whole image. So is attention over
    pooled maps, as in MViT v2, whose keys have other places than its queries.

    Args:
      call: Function without arguments that applies a module once, such as the outputs of a task.
      offsets: Arrays [b, n, heads, d] by path, to be added to what an attention has mixed, before its output layer. The
        gradient with respect to zeros G gives that with respect to the weights: sum_d G[q, d] value[n, d].

    Returns:
      The result of the call, and the weights and values; none for a network without attention.

    Raises:
      UserError: The blocks are scanned or computed again for the gradient, so none can be looked into.
    """
    shifts = offsets or {}
    parts: dict[str, dict[str, jax.Array]] = {}
    weights: dict[str, jax.Array] = {}
    values: dict[str, jax.Array] = {}

    def look(next_fun: Callable, args: tuple, kwargs: dict, context: Any) -> Any:
        module = context.module
        if context.method_name != "__call__":
            return next_fun(*args, **kwargs)
        if isinstance(module, Encoder) and (module.scan or module.remat != "none"):
            raise UserError(
                "its blocks are scanned or computed again (model.scan, model.remat), so none can be looked into"
            )
        inside = isinstance(module.parent, Attention)
        if inside and module.name == "out" and (key := "/".join(module.parent.path)) in shifts:
            args = (args[0] + shifts[key].astype(args[0].dtype), *args[1:])
        y = next_fun(*args, **kwargs)
        if inside:
            parts.setdefault("/".join(module.parent.path), {})[module.name] = y
        if isinstance(module, Attention):
            key, found = "/".join(module.path), parts.pop("/".join(module.path))
            given = dict(zip(("queries", "tokens", "angles", "bias"), args)) | kwargs
            angles, bias = given.get("angles"), given.get("bias")
            query, keys = (found.get(f"{name}_norm", found[name]) for name in ("query", "key"))
            if angles is not None:
                query, keys = rotate(query, angles), rotate(keys, angles)
            # Not of attention pooling, whose query is no token, nor within windows [b, windows, n, heads, d].
            if query.ndim == 4 and query.shape[1] == keys.shape[1]:
                weights[key] = attention_weights(query, keys, module.causal, bias)
                values[key] = found["value"]
        return y

    with nn.intercept_methods(look):
        result = call()
    return result, Attended(weights, values)
