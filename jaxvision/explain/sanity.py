"""Do maps depend on what the network has learned? Its weights are randomised, layer by layer, and the maps compared.

A map that stays the same when the weights are random is about the image, not about the network.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxvision import explain, paths
from jaxvision.arguments import Range
from jaxvision.explain.base import Explanation, Outputs, Row, Subject, Tile, maps_over
from jaxvision.explain.maps import make_maps, read_map_maker, why_no_maps
from jaxvision.registry import part

_MOVES = {"convert_element_type", "copy", "reshape", "squeeze", "transpose", "broadcast_in_dim"}


def weight_layers(outputs: Outputs, variables: Any, images: Any) -> dict[str, tuple[str, ...]]:
    """Finds the layers with weights, in the order in which the network applies them.

    The order is that of the first use of a weight in the traced computation of the logits, so it holds for any network.

    Args:
      outputs: Pure function of variables and images that returns "logits" [b, k].
      variables: Variables of the model. Only those in "params" are weights, if there is such an entry.
      images: Images [b, h, w, 3], or their shape and type.

    Returns:
      The paths of the weights of each layer by the path of the layer, from the input to the logits. Blocks in a loop
      (`scan=True`) count as one layer.
    """

    def logits(params: Any, variables: Any, images: Any) -> jax.Array:
        return outputs(_with_weights(variables, params), images)["logits"]

    params = _weights(variables)
    jaxpr = jax.make_jaxpr(logits)(params, variables, images).jaxpr
    used = _first_uses(jaxpr, dict(zip(jaxpr.invars, paths.names(params))))
    layers: dict[str, tuple[str, ...]] = {}
    for path in dict.fromkeys(used):
        name = path.rpartition("/")[0] or path
        layers[name] = (*layers.get(name, ()), path)
    return layers


def randomise(variables: Any, weights: Sequence[str], seed: int = 0) -> Any:
    """Replaces weights by random ones: each array keeps its values, in a random order.

    Adebayo et al. draw from the distribution of the initialisation. The order is taken here because it needs to know
    no initialiser, and leaves the scale of what a layer returns about as it was.

    Args:
      variables: Variables of the model.
      weights: Paths of the weights, see `weight_layers`.
      seed: Seed of the orders. That of an array depends on the seed and its path alone.

    Returns:
      Variables like those given.

    >>> sorted(randomise({"params": {"w": np.arange(3.0)}}, ["w"])["params"]["w"].tolist())
    [0.0, 1.0, 2.0]
    """
    chosen, params = set(weights), _weights(variables)
    leaves = [
        np.random.default_rng([seed, *path.encode()]).permutation(np.ravel(jax.device_get(x))).reshape(x.shape)
        if path in chosen
        else x
        for path, x in paths.flatten(params).items()
    ]
    return _with_weights(variables, jax.tree.unflatten(jax.tree.structure(params), leaves))


def rank_correlation(maps: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Computes Spearman's rank correlation of the maps of each image.

    Args:
      maps: Maps, float [n, h, w].
      others: Maps to compare them with, float [n, h, w].

    Returns:
      float64 [n] in [-1, 1]; 0 where one of the two maps is the same everywhere.

    >>> rank_correlation(np.array([[[1.0, 2.0, 3.0]]]), np.array([[[1.0, 4.0, 9.0]]])).tolist()
    [1.0]
    """
    from scipy import stats  # takes half a second to import

    found = []
    for one, other in zip(maps.reshape(len(maps), -1), others.reshape(len(others), -1)):
        varies = np.ptp(one) > 0 and np.ptp(other) > 0
        found.append(float(stats.spearmanr(one, other).statistic) if varies else 0.0)
    return np.array(found)


def randomised_maps(
    maps_of: Callable[[Any], np.ndarray],
    variables: Any,
    layers: Mapping[str, Sequence[str]],
    groups: int = 8,
    cascade: bool = True,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Makes the maps of networks of which more and more layers are random, from the logits down.

    Source: Adebayo et al. 2018, arXiv 1810.03292, sec. 3.1: cascading, and independent, randomisation.

    Args:
      maps_of: Function from variables to maps, float [n, h, w].
      variables: Variables of the trained model.
      layers: Weights of each layer, from the input to the logits, see `weight_layers`.
      groups: Number of steps at most. A step randomises the next layers, about as many as each other step.
      cascade: True to keep random what was so in the step before; False to randomise the layers of a step alone.
      seed: Seed of the random weights.

    Returns:
      Maps float [n, h, w] by the name of the lowest layer that a step randomises.
    """
    names, found = list(layers)[::-1], dict[str, np.ndarray]()
    before: list[str] = []
    for group in np.array_split(np.arange(len(names)), min(groups, len(names))):
        mine = [path for i in group for path in layers[names[i]]]
        before = before + mine if cascade else mine
        found[names[group[-1]]] = maps_of(randomise(variables, before, seed))
    return found


def _weights(variables: Any) -> Any:
    return variables["params"] if isinstance(variables, Mapping) and "params" in variables else variables


def _with_weights(variables: Any, params: Any) -> Any:
    return {**variables, "params": params} if isinstance(variables, Mapping) and "params" in variables else params


def _first_uses(jaxpr: core.Jaxpr, names: dict[Any, str]) -> list[str]:
    """The names of variables in the order in which equations use them; what only moves or casts one is no use."""
    names, used = dict(names), []
    for eqn in jaxpr.eqns:
        given = [None if isinstance(v, core.Literal) else names.get(v) for v in eqn.invars]
        if not any(given):
            continue
        if eqn.primitive.name in _MOVES:
            names[eqn.outvars[0]] = next(name for name in given if name)
            continue
        for inner in map(_jaxpr_of, eqn.params.values()):
            if inner is not None and len(inner.invars) == len(given):
                used += _first_uses(inner, {v: name for v, name in zip(inner.invars, given) if name})
        used += [name for name in given if name and name not in used]
    return used


def _jaxpr_of(value: Any) -> core.Jaxpr | None:
    return value.jaxpr if isinstance(value, core.ClosedJaxpr) else value if isinstance(value, core.Jaxpr) else None


def _why_not(subject: Subject, *, of: str = "gradient", **_: Any) -> str | None:
    return why_no_maps(subject, of)


def _passes(subject: Subject, *, of: str = "gradient", groups: int = 8, **_: Any) -> float:
    make, options = read_map_maker(of)
    passes = explain.EXPLANATIONS.more(make, "passes", 3)
    return (groups + 1) * (passes(subject, **options) if callable(passes) else passes)


@part("explanation", "randomised", small={"groups": 2}, passes=_passes, refuses=_why_not)
def explain_randomised(
    subject: Subject,
    *,
    of: str = "gradient",
    groups: Annotated[int, Range(1)] = 8,
    cascade: bool = True,
    seed: Annotated[int, Range(0)] = 0,
) -> Explanation:
    """The maps of an instrument when the weights are random, from the logits down (Adebayo et al. 2018).

    Args:
      subject: Model and images.
      of: Instrument to test, with its options: "gradient", "gradcam(layer='stages/1')".
      groups: Number of steps, from the last layers to all of them.
      cascade: True to keep random what was so in the step before; False to randomise the layers of each step alone.
      seed: Seed of the random weights.
    """
    maps = make_maps(subject, of)
    like = jax.ShapeDtypeStruct((1, *subject.images.shape[1:]), jnp.float32)
    layers = weight_layers(subject.outputs, subject.variables, like)
    trained = maps(subject)
    changed = randomised_maps(
        lambda variables: maps(subject._replace(variables=variables)), subject.variables, layers, groups, cascade, seed
    )
    correlations = {name: rank_correlation(trained, found) for name, found in changed.items()}
    signed = bool(min(trained.min(), *(found.min() for found in changed.values())) < 0)
    rows = []
    for i, row in enumerate(maps_over(subject, {"trained": trained}, signed=signed)):
        steps = [
            Tile(subject.images[i], found[i], f"{step}: {correlations[name][i]:.2f}", signed=signed)
            for step, (name, found) in enumerate(changed.items(), 1)
        ]
        rows.append(Row(row.name, [*row.tiles, *steps]))
    which = "down to" if cascade else "the layers that end at"
    table = ["| step | random are | rank correlation with the trained map | from | to |", "|---|---|---:|---:|---:|"]
    table += [
        f"| {step} | {which} `{name}` | {found.mean():.2f} | {found.min():.2f} | {found.max():.2f} |"
        for step, (name, found) in enumerate(correlations.items(), 1)
    ]
    text = (
        f"The maps of `{of}` when the weights of layers are put into a random order (seed {seed}), from the logits "
        "down (Adebayo et al. 2018). The class stays the one that the trained network was explained for. Under each "
        "map: the step of the table, and Spearman's rank correlation of the map with the trained one. A map that stays "
        "the same tells nothing of what was learned.\n\n" + "\n".join(table)
    )
    return Explanation(f"Random weights: {of}", text, rows)
