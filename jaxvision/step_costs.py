"""What a step costs, before any run: its FLOPs from a trace, and its seconds from trying it on the present devices."""

import json
import math
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision import experiment as experiments
from jaxvision.analysis.accounting import macs, traced_macs
from jaxvision.parallel.mesh import batch_sharding

PyTree = Any
# Share of the forward pass in a step: the gradient is two products of the size of each one in it, with respect to the
# input of a layer and to its weights.
FORWARD = 1 / 3
MOST_TRIED = 4  # number of different steps that are tried: each is compiled
_TRIED = 0.4  # seconds for which the step is tried
_FEWEST, _MOST = 2, 20  # number of steps that are tried


class StepCost(NamedTuple):
    """The cost of a step.

    Attributes:
      parameters: Number of trained numbers in the model.
      flops: FLOPs of the convolutions and matrix products in a step; a multiply-add counts as two. What only the
        gradient of frozen parameters would need is not in it.
      forward: FLOPs of the forward pass of a batch, `FORWARD` of a step that trains everything.
      state_bytes: Bytes of the state, whole: parameters, optimizer, averages.
      building: Seconds that it took to build the experiment and to trace the step.
    """

    parameters: int
    flops: float
    forward: float
    state_bytes: int
    building: float


class Tried(NamedTuple):
    """A step that was tried.

    Attributes:
      compiling: Seconds to compile it, or to load it if it was compiled before.
      seconds: Seconds of a step.
    """

    compiling: float
    seconds: float


_costs: dict[str, StepCost] = {}
_tried: dict[str, Tried] = {}
_compiled: set[str] = set()  # keys of the steps that were compiled


def flops_of(traced: jax.stages.Traced) -> float:
    """Counts the floating-point operations of a program, by XLA's analysis before optimisation.

    XLA counts once what a loop repeats, such as the layers of a model with `scan`. Where convolutions and matrix
    products alone are more, they are the count.

    Args:
      traced: Trace of the program, such as `jax.jit(step).trace(state, batch)`.

    Returns:
      Number of FLOPs over the whole mesh, where a multiply-add counts as two and work that is done twice, as with
      `remat`, counts twice.

    >>> x = jax.ShapeDtypeStruct((4, 4), "float32")
    >>> flops_of(jax.jit(jax.numpy.matmul).trace(x, x))
    128.0
    """
    counted = (traced.lower().cost_analysis() or {}).get("flops", 0.0)
    return max(counted, 2.0 * traced_macs(traced.jaxpr.jaxpr))


def program_key(config: ConfigDict) -> str:
    """Returns a text that is equal for configs whose steps cost the same: those that differ in numbers only.

    Args:
      config: Config of a run.
    """
    relevant = json.loads(configs.to_json(_step_config(config)))
    relevant.pop("seed", None)
    for section, kept in (("optimizer", ("name", "freeze")), ("train", ("precision", "accumulate", "ema"))):
        relevant[section] = {key: value for key, value in relevant[section].items() if key in kept}
    relevant["data"].pop("subset", None)
    return json.dumps(relevant, sort_keys=True)


def step_key(config: ConfigDict) -> str:
    """Returns a text that is equal for configs whose steps are one compiled program: those that differ in seeds only.

    Numbers of the optimizer, such as the learning rate, and the length of the run are constants of the program.

    Args:
      config: Config of a run.
    """
    relevant = json.loads(configs.to_json(_step_config(config)))
    relevant.pop("seed", None)
    (relevant["data"].get("subset") or {}).pop("seed", None)
    return json.dumps(relevant, sort_keys=True)


def step_cost(config: ConfigDict) -> StepCost:
    """Counts the work of a step by tracing it. Configs that differ only in keys that do not change it are traced once.

    Args:
      config: Config of the run.
    """
    key = program_key(config)
    if key not in _costs:
        began = time.perf_counter()
        experiment = experiments.build(_step_config(config), training_data="ignored")
        state = experiment.abstract_state()
        trained = jax.tree.map(lambda x, frozen: 0 if frozen else x.size, state.params, experiment.optimizer.frozen)
        parameters = sum(jax.tree.leaves(trained))
        flops = whole = 2.0 * macs(experiment.step(), state, experiment.batch)
        if any(jax.tree.leaves(experiment.optimizer.frozen)):
            thawed = experiment._replace(optimizer=experiment.optimizer._replace(frozen=None))
            whole = 2.0 * macs(thawed.step(), state, experiment.batch)
        size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
        _costs[key] = StepCost(parameters, flops, FORWARD * whole, size, time.perf_counter() - began)
    return _costs[key]


def try_step(config: ConfigDict) -> Tried:
    """Compiles the step and runs it a few times on random numbers.

    Configs that differ only in keys that do not change its cost are tried once. After `MOST_TRIED` different steps, the
    speed of the one with the nearest number of FLOPs stands for others.

    Args:
      config: Config of the run.
    """
    key = program_key(config)
    if key not in _tried and len(_tried) >= MOST_TRIED:
        flops = max(step_cost(config).flops, 1)  # the model `identity` computes nothing
        of = {other: max(_costs[other].flops, 1) for other in _tried}
        near = min(of, key=lambda other: abs(math.log(flops / of[other])))
        return _tried[near]._replace(seconds=_tried[near].seconds * flops / of[near])
    if key not in _tried:
        step_cost(config)
        experiment = experiments.build(_step_config(config), training_data="ignored")
        step = experiment.step()
        experiment.trace(step)  # which the runner uses
        runner = experiment.runner(step, lambda _, item: item)
        state = jax.tree.map(_drawn, experiment.abstract_state())
        place = lambda x: _drawn(
            jax.ShapeDtypeStruct((1, *x.shape), x.dtype, sharding=batch_sharding(experiment.mesh, leading=1))
        )
        items = jax.tree.map(place, experiment.batch)
        times: list[float] = []
        while len(times) <= _FEWEST or (sum(times[1:]) < _TRIED and len(times) < _MOST):
            began = time.perf_counter()
            state, metrics = runner(state, {}, items)
            jax.block_until_ready(metrics)
            times.append(time.perf_counter() - began)
        seconds = float(np.median(times[1:]))
        _tried[key] = Tried(max(times[0] - seconds, 0.0), seconds)
        _compiled.add(step_key(config))
    return _tried[key]


def is_compiled(config: ConfigDict) -> bool:
    """Returns whether `try_step` has compiled the very step of a config.

    Args:
      config: Config of the run.
    """
    return step_key(config) in _compiled


def _step_config(config: ConfigDict) -> ConfigDict:
    """The config without what does not change the step; of the weights it starts from, only what they freeze does."""
    kept = {k: v for k, v in config.items() if k not in ("evals", "init", "loggers", "mesh")}
    if freeze := (config.get("init") or {}).get("freeze"):
        kept["init"] = {"weights": "ignored", "freeze": freeze}
    return ConfigDict(kept)


def _drawn(like: jax.ShapeDtypeStruct) -> jax.Array:
    """An array of small numbers, so that no step is skipped because something is not finite; integers are 0."""
    if np.issubdtype(like.dtype, np.floating):
        values = np.random.default_rng(0).uniform(0.01, 0.02, like.shape).astype(like.dtype)
    else:
        values = np.zeros(like.shape, like.dtype)
    return jax.device_put(values, like.sharding)
