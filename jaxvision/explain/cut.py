"""The gradient of a score with respect to a layer inside a model, for any model that returns the layer.

`jax.grad` cannot give it: a model returns its layers beside its logits, and the logits are not computed from the arrays
that were returned. Here the computation is traced and cut where the layer is made, and the rest of it becomes a
function of the layer. So no model has to be prepared for it, and a user's own needs no Linen.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxvision.errors import UserError
from jaxvision.explain.base import Outputs, layer, score

# What only moves or casts numbers: a ViT takes a stage's map [b, h, w, d] out of the tokens [b, p + n, d] of a block.
_MOVES = {"reshape", "slice", "squeeze", "transpose", "convert_element_type", "copy"}


def layer_gradient(
    outputs: Outputs, variables: Any, images: jax.Array, targets: jax.Array, name: str
) -> tuple[jax.Array, jax.Array]:
    """Computes a layer, and the gradient of the logit of a class with respect to it.

    Args:
      outputs: Pure function of variables and images that returns "logits" [b, k] and the layer.
      variables: Variables of the model.
      images: Images, float32 [b, h, w, 3] in [0, 1].
      targets: Class of each image, int32 [b].
      name: Name of the layer, such as "map", "stages/2" or "features".

    Returns:
      The layer [b, ...] and the gradient [b, ...], both float32.

    Raises:
      UserError: There is no such layer, or the logits are not computed from it: it is beside their path, or it comes
        out of a loop over blocks (`scan=True`).
    """

    def traced(variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        out = outputs(variables, images)
        return score(out, targets).sum(), layer(out, name)

    closed = jax.make_jaxpr(traced)(variables, images)
    jaxpr, inputs = closed.jaxpr, jax.tree.leaves((variables, images))
    value, found = jaxpr.outvars
    moves: list[Any] = []
    made_by = {var: eqn for eqn in jaxpr.eqns for var in eqn.outvars}
    while not _depends(jaxpr.eqns, found, value):
        eqn = made_by.get(found)
        if eqn is None or eqn.primitive.name not in _MOVES:
            raise UserError(
                f"the logits are not computed from the layer {name!r}, so they have no gradient with respect to it: "
                "choose a layer on the way to them (with model.scan, the blocks are inside of a loop: only 'map' is)"
            )
        moves.append(eqn)
        found = eqn.invars[0]
    # The equation that made the layer is left out, so all that it made are inputs of the rest.
    eqn = made_by.get(found)
    given = [found] if eqn is None else [v for v in eqn.outvars if not isinstance(v, core.DropVar)]
    before = core.jaxpr_as_fun(closed.replace(jaxpr=_part(jaxpr, jaxpr.invars, given, jaxpr.eqns)))
    rest = [other for other in jaxpr.eqns if other is not eqn]
    invars = [*(v for v in jaxpr.invars if v not in given), *given]
    after = core.jaxpr_as_fun(closed.replace(jaxpr=_part(jaxpr, invars, [value], rest)))
    kept = [x for v, x in zip(jaxpr.invars, inputs) if v not in given]
    values, place = before(*inputs), given.index(found)

    def score_of(x: jax.Array) -> jax.Array:
        return after(*kept, *values[:place], x, *values[place + 1 :])[0]

    x = values[place]
    gradient = jax.grad(score_of)(x)
    for move in reversed(moves):
        x, gradient = (_move(move, array) for array in (x, gradient))
    return x.astype(jnp.float32), gradient.astype(jnp.float32)


def _part(jaxpr: core.Jaxpr, invars: Sequence, outvars: Sequence, eqns: Sequence) -> core.Jaxpr:
    """The equations of a jaxpr that its outputs need, with other inputs and outputs."""
    needed, kept = set(outvars), []
    for eqn in reversed(eqns):
        if needed & set(eqn.outvars):
            kept.append(eqn)
            needed |= {v for v in eqn.invars if not isinstance(v, core.Literal)}
    return jaxpr.replace(invars=list(invars), outvars=list(outvars), eqns=kept[::-1])


def _depends(eqns: Sequence, source: Any, result: Any) -> bool:
    """Whether a variable is computed from another one."""
    reached = {source}
    for eqn in eqns:
        if any(not isinstance(v, core.Literal) and v in reached for v in eqn.invars):
            reached |= set(eqn.outvars)
    return result in reached


def _move(eqn: Any, x: jax.Array) -> jax.Array:
    """Applies an equation that moves numbers to another array of the same shape."""
    bind: Callable = eqn.primitive.bind
    return bind(x, **eqn.params)
