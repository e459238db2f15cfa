"""Which parameters are decayed by default, and layer-wise learning rates."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from jaxvision import paths
from jaxvision.errors import UserError, listed, unknown
from jaxvision.specs import Registry

PyTree = Any

# Weight decay is for weights that multiply features. Biases, norm scales, positional embeddings and class tokens
# are few and do not make the function steeper in its inputs; decay would only pull them away from their best values
# (Goodfellow et al. 2016, sec. 7.1; He et al. 2019, "Bag of tricks", sec. 3.1).
DECAY_RULES: paths.Rules = (
    (r"kernel$", 1.0),
    (r".*", 0.0),
)

# For each network of a model, groups of paths of parameters, from the input on; see `models.order`.
LayerOrder = Mapping[str, Sequence[Sequence[str]]]

freezings = Registry("value of init.freeze", plural="freezing", usage='c.init.freeze = "CALL"')


@freezings.register()
def all_but_last(blocks: int) -> Callable[[PyTree, LayerOrder], list[str]]:
    """Freezes all but head, final norm, pooling, and the last blocks of a transformer or stages of a ResNet.

    Args:
      blocks: Number of blocks, or stages, that are trained, at least 0.

    Returns:
      Function of the parameters and the order of the layers that returns the names of the frozen parameters.

    Raises:
      UserError: `blocks` is not a whole number of at least 0.
    """
    if not isinstance(blocks, int) or blocks < 0:
        raise UserError(f"all_but_last(k) takes a number of blocks of at least 0, not {blocks!r}")
    return lambda params, order: [name for name, (_, depth) in from_top(params, order).items() if depth > blocks]


def freeze_rules(params: PyTree, spec: str, order: Callable[[], LayerOrder]) -> paths.Rules:
    """Makes the rules for the `freeze` of an optimizer from a spec.

    Args:
      params: Tree of parameters; only its paths are read.
      spec: Call that names the frozen parameters: "all_but_last(k)".
      order: Function that returns the order of the model's layers.

    Returns:
      Pairs (regular expression, True if frozen) for `make_optimizer`.

    Raises:
      UserError: The spec is not one such call, it freezes nothing, or the model has no order of its layers.

    >>> order = lambda: {"": (("stem_conv",), ("stage1",), ("stage2",))}
    >>> freeze_rules({"head": 0, "stage1": 0, "stage2": 0, "stem_conv": 0}, "all_but_last(1)", order)
    (('^stage1$', True), ('^stem_conv$', True), ('.*', False))
    """
    calls = freezings.build(spec)
    if len(calls) != 1:
        raise UserError(f"init.freeze {spec!r} must be one call, like all_but_last(2)")
    frozen = calls[0](params, order())
    if not frozen:
        raise UserError(f"init.freeze {spec!r} freezes nothing: the model has no more layers than that")
    return (*((f"^{re.escape(name)}$", True) for name in frozen), (".*", False))


def layer_decay(params: PyTree, decay: float | Mapping[str, float], order: LayerOrder) -> PyTree:
    """Makes multipliers of the learning rate that fall geometrically from the head to the input.

    In a model of n blocks, block i (from 0) gets `decay ** (n - i)`. Patch embedding, positions and class token, or the
    stem, get `decay ** (n + 1)`. Final norm, pooling, projection and head get 1. All blocks of one stage of a ResNet
    share a multiplier. In a model of two towers each tower counts its own blocks.

    Source: Clark et al. 2020 (ELECTRA); Bao et al. 2022 (BEiT) and its code.

    Args:
      params: Tree of parameters; only its paths are read.
      decay: Ratio of the learning rates of neighbouring layers, in (0, 1]; or ratios by tower, as in
        {"image_tower": 0.75}. A tower that is not named has ratio 1.
      order: Order of the model's layers.

    Returns:
      Tree of floats with the structure of the parameters.

    Raises:
      UserError: A ratio out of range, an unknown tower, or a layer of the order without parameters.

    >>> order = {"": (("embedding",), ("block_00",), ("block_01",))}
    >>> layer_decay({"embedding": 0, "block_00": {"kernel": 0}, "block_01": {"kernel": 0}, "head": 0}, 0.5, order)
    {'block_00': {'kernel': 0.25}, 'block_01': {'kernel': 0.5}, 'embedding': 0.125, 'head': 1.0}
    """
    ratios = dict.fromkeys(order, decay) if isinstance(decay, int | float) else dict(decay)
    for tower, ratio in ratios.items():
        if tower not in order:
            raise unknown("tower in layer_decay", tower, order)
        if not 0 < ratio <= 1:
            raise UserError(f"layer_decay must be in (0, 1], not {ratio!r}")
    multipliers = [float(ratios.get(tower, 1.0) ** depth) for tower, depth in from_top(params, order).values()]
    return jax.tree.unflatten(jax.tree.structure(params), multipliers)


def from_top(params: PyTree, order: LayerOrder) -> dict[str, tuple[str, int]]:
    """Counts the layers from the top of a network down to each of its parameters.

    Args:
      params: Tree of parameters; only its paths are read.
      order: Order of the model's layers.

    Returns:
      `{path: (network, layer)}`: name of the network, and number of the layer from the top, 0 for head and final norm,
      1 for the last block.

    Raises:
      UserError: A layer of the order without parameters.

    >>> from_top({"a": {"stem": 0, "norm": 0}, "scale": 0}, {"a": (("stem",),)})
    {'a/norm': ('a', 0), 'a/stem': ('a', 1), 'scale': ('', 0)}
    """
    names = paths.names(params)
    depths = {name: (next((n for n in order if n and name.startswith(f"{n}/")), ""), 0) for name in names}
    for network, groups in order.items():
        root = f"{network}/" if network else ""
        for i, group in enumerate(groups):
            inside = [name for name in names if any(f"{name}/".startswith(f"{root}{path}/") for path in group)]
            if not inside:
                where = " or ".join(root + path for path in group)
                raise UserError(
                    f"layer_decay and init.freeze find no parameter under {where}, "
                    f"which layer_order of the model names. Parameters: {listed(root + group[0], names)}"
                )
            depths |= dict.fromkeys(inside, (network, len(groups) - i))
    return depths
