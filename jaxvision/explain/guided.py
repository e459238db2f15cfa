"""Guided backpropagation: gradients in which each ReLU also drops what is negative on the way back.

The ReLUs are found in the traced computation, so no model has to be prepared for it.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core

from jaxvision.explain.base import Explanation, Outputs, Subject, in_batches, maps_over, score, without_classes
from jaxvision.explain.gradients import saliency
from jaxvision.registry import part

_INLINED = ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2")


@jax.custom_vjp
def guided_relu(x: jax.Array) -> jax.Array:
    """Computes ReLU, with a gradient that is kept only where it and the input are positive.

    Source: Springenberg et al. 2015, arXiv 1412.6806, sec. 3.4 and fig. 1.

    Args:
      x: Array, float [...].

    >>> jax.grad(lambda x: (guided_relu(x) * jnp.array([1.0, -1.0])).sum())(jnp.ones(2)).tolist()
    [1.0, 0.0]
    """
    return jnp.maximum(x, 0)


guided_relu.defvjp(lambda x: (jnp.maximum(x, 0), x), lambda x, g: (jnp.where((x > 0) & (g > 0), g, 0).astype(g.dtype),))


@functools.partial(jax.jit, static_argnums=0)
def guided_gradient(outputs: Outputs, variables: Any, images: jax.Array, targets: jax.Array) -> jax.Array:
    """Computes the gradient of a logit with respect to the pixels by guided backpropagation.

    It draws what the network can see rather than what it uses: it hardly changes with the class, nor with the weights
    of the last layers (Adebayo et al. 2018, arXiv 1810.03292, sec. 4).

    Args:
      outputs: Pure function of variables and images that returns "logits" [b, k], with `jax.nn.relu` inside.
      variables: Variables of the model.
      images: Images, float32 [b, h, w, 3] in [0, 1].
      targets: Class of each image, int32 [b].

    Returns:
      float32 [b, h, w, 3].
    """

    def total(x: jax.Array) -> jax.Array:
        return score(outputs(variables, x), targets).sum()

    closed = jax.make_jaxpr(total)(images)
    return jax.grad(lambda x: _evaluate(closed.jaxpr, closed.consts, [x])[0])(images)


def _evaluate(jaxpr: core.Jaxpr, consts: Any, inputs: Any) -> list[Any]:
    """Computes a jaxpr with a guided ReLU in place of each ReLU."""
    values: dict[Any, Any] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*consts, *inputs)))
    read = lambda v: v.val if isinstance(v, core.Literal) else values[v]
    for eqn in jaxpr.eqns:
        operands = [read(v) for v in eqn.invars]
        if _is_relu(eqn):
            results: Any = [guided_relu(*operands)]
        elif eqn.primitive.name in _INLINED:
            inner: Any = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
            inner, held = (inner.jaxpr, inner.consts) if isinstance(inner, core.ClosedJaxpr) else (inner, ())
            results = _evaluate(inner, held, operands)
        else:
            results = _apply(jaxpr, eqn, operands)
        values |= dict(zip(eqn.outvars, results))
    return [read(v) for v in jaxpr.outvars]


def _apply(jaxpr: core.Jaxpr, eqn: Any, operands: list[Any]) -> list[Any]:
    """Computes one equation, as a jaxpr of its own."""
    given = {v: x for v, x in zip(eqn.invars, operands) if not isinstance(v, core.Literal)}
    made = [v for v in eqn.outvars if not isinstance(v, core.DropVar)]
    alone = jaxpr.replace(constvars=[], invars=list(given), outvars=made, eqns=[eqn])
    found = iter(core.jaxpr_as_fun(core.ClosedJaxpr(alone, []))(*given.values()))
    return [None if isinstance(v, core.DropVar) else next(found) for v in eqn.outvars]


def _is_relu(eqn: Any) -> bool:
    if eqn.primitive.name == "custom_jvp_call":
        return _called(eqn.params["call_jaxpr"]) == "relu"
    return eqn.primitive.name in _INLINED and eqn.params.get("name") == "relu"


def _called(closed: Any) -> str:
    """The name of the function from which a jaxpr was made."""
    return str(closed.jaxpr.debug_info.func_name)


def has_relu(outputs: Callable, variables: Any, images: Any) -> bool:
    """Returns True if a function applies `jax.nn.relu` somewhere.

    Args:
      outputs: Pure function of variables and images.
      variables: Variables of the model.
      images: Images [b, h, w, 3], or their shape and type.
    """

    def inside(jaxpr: core.Jaxpr) -> bool:
        for eqn in jaxpr.eqns:
            if _is_relu(eqn):
                return True
            if eqn.primitive.name in _INLINED:
                inner: Any = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
                if inside(inner.jaxpr if isinstance(inner, core.ClosedJaxpr) else inner):
                    return True
        return False

    return inside(jax.make_jaxpr(outputs)(variables, images).jaxpr)


def _why_not(subject: Subject, **_: Any) -> str | None:
    if reason := without_classes(subject):
        return reason
    like = jax.ShapeDtypeStruct((1, *subject.images.shape[1:]), jnp.float32)
    return None if has_relu(subject.outputs, subject.variables, like) else "this model has no ReLU to guide"


@part("explanation", "guided", maps=True, passes=3, refuses=_why_not)
def explain_guided(subject: Subject) -> Explanation:
    """Guided backpropagation: the patterns that excite the network (Springenberg et al. 2015).

    Args:
      subject: Model and images.
    """
    maps = in_batches(subject, lambda x, k: saliency(guided_gradient(subject.outputs, subject.variables, x, k)))
    text = (
        "The gradient, with every ReLU dropping what is negative on the way back (Springenberg et al. 2015). It draws "
        "the edges that the network sees, and looks sharp; but it hardly changes with the class or with the weights of "
        "the last layers (Adebayo et al. 2018), so it does not show what an answer rests on."
    )
    return Explanation("Guided backpropagation", text, maps_over(subject, {"guided": maps}), maps)
