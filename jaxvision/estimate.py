"""Estimates the cost of a run before it starts: parameters, FLOPs, steps and a rough time on the present devices."""

import json
import time
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision import durations, inputs
from jaxvision import experiment as experiments
from jaxvision.analysis.accounting import macs
from jaxvision.components import PRECISIONS
from jaxvision.sections import DataSection, TrainSection
from jaxvision.train.progress import duration

# Speed of a training step as a share of the speed of large matrix products; see `estimate`.
UTILISATION = {"cpu": 0.13, "gpu": 0.35, "tpu": 0.35}
_MATRIX = {"cpu": 1024, "gpu": 4096, "tpu": 4096}  # side of the matrices that are timed, by platform
_TIMED = 0.4  # seconds for which the products are timed
_UNITS = ((1e18, "exa"), (1e15, "peta"), (1e12, "tera"), (1e9, "giga"))


class Estimate(NamedTuple):
    """The cost of one run.

    Attributes:
      parameters: Number of trained numbers in the model.
      flops_per_step: FLOPs of the convolutions and matrix products in a step; a multiply-add counts as two.
      steps: Number of steps.
      examples: Number of examples in all steps, with repetitions.
      seconds: Duration of the steps on the devices of this process and its peers; rough, see `estimate`.
    """

    parameters: int
    flops_per_step: float
    steps: int
    examples: int
    seconds: float

    @property
    def flops(self) -> float:
        """FLOPs of the whole run, without its evaluations."""
        return self.flops_per_step * self.steps


def estimate(config: ConfigDict) -> Estimate:
    """Counts the work of a run without compiling it and, if the config gives the size of the data, without the data.

    FLOPs are those of the traced step, forward and backward, including kernel positions on padding
    (`accounting.macs`).

    The time is FLOPs / (`UTILISATION` * measured speed of matrix products), and it is rough. On two CPU cores the share
    was 0.19 and 0.09 for ResNets of 8 and 20 layers, 0.09 for LeNet, 0.09 and 0.23 for small ViTs, so there the time is
    right within a factor of two; on accelerators the share is assumed, not measured. The time does not include
    compilation (seconds to minutes), evaluations, checkpoints, waiting for data and other jobs on the same devices.

    Args:
      config: Config of the run.

    Raises:
      UserError: If the step cannot be built from the config, or its length is unknown.
    """
    configs.check_sections(config)
    data = configs.call(DataSection, config.data, "data")
    train = configs.call(TrainSection, config.train, "train")
    info = inputs.open_or_describe(data, "ignored")[1]
    steps = durations.steps(train.total, batch_size=data.batch_size, examples=info.num_examples)
    parameters, flops = step_cost(config)
    platform = jax.default_backend()
    devices = jax.process_count() if platform == "cpu" else jax.device_count()  # devices of a CPU share its cores
    speed = matmul_flops(train.precision) * devices * UTILISATION.get(platform, 0.35)
    return Estimate(parameters, flops, steps, steps * data.batch_size, steps * flops / speed)


_costs: dict[str, tuple[int, float]] = {}


def step_cost(config: ConfigDict) -> tuple[int, float]:
    """Returns the number of parameters and the FLOPs of a step.

    Configs that differ only in keys that do not change the cost are traced once.

    Args:
      config: Config of the run.
    """
    config = ConfigDict({k: v for k, v in config.items() if k not in ("evals", "init", "mesh")})
    relevant = json.loads(configs.to_json(config))
    relevant.pop("seed", None)
    for section, kept in (("optimizer", ("name",)), ("train", ("precision", "accumulate", "ema"))):
        relevant[section] = {key: value for key, value in relevant[section].items() if key in kept}
    relevant["data"].pop("subset", None)
    key = json.dumps(relevant, sort_keys=True)
    if key not in _costs:
        experiment = experiments.build(config, training_data="ignored")
        state = experiment.abstract_state()
        parameters = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        _costs[key] = parameters, 2.0 * macs(experiment.step(), state, experiment.batch)
    return _costs[key]


@cache
def matmul_flops(precision: str = "float32") -> float:
    """Measures the FLOP/s of one device for large matrix products: the best of those that run in half a second.

    Args:
      precision: Precision of the products, a key of `PRECISIONS`.
    """
    side = _MATRIX.get(jax.default_backend(), 1024)
    x = jnp.ones((side, side), PRECISIONS[precision])
    multiply = jax.jit(jnp.matmul)
    multiply(x, x).block_until_ready()  # compiles
    best, began = float("inf"), time.perf_counter()
    while (now := time.perf_counter()) - began < _TIMED:
        multiply(x, x).block_until_ready()
        best = min(best, time.perf_counter() - now)
    return 2 * side**3 / best


def words(estimates: Sequence[Estimate]) -> str:
    """Describes the total cost of several runs, one after the other.

    Args:
      estimates: Estimate of each run.

    >>> words([Estimate(10_000, 2e9, 1_000, 32_000, 20.0)] * 18).partition(" on ")[0]
    '18 runs, 36 teraFLOPs, about 6m00s'
    """
    count, device = len(estimates), jax.devices()[0]
    runs = f"{count} run" if count == 1 else f"{count} runs"
    where = "this CPU" if device.platform == "cpu" else f"{jax.device_count()} {device.device_kind}"
    seconds = sum(estimate.seconds for estimate in estimates)
    return f"{runs}, {flops_words(sum(estimate.flops for estimate in estimates))}, about {duration(seconds)} on {where}"


def flops_words(flops: float) -> str:
    """Formats a number of FLOPs with its unit.

    Args:
      flops: Number of floating-point operations.

    >>> flops_words(4.2e17), flops_words(3e6)
    ('420 petaFLOPs', '0.003 gigaFLOPs')
    """
    scale, unit = next(((scale, unit) for scale, unit in _UNITS if flops >= scale), _UNITS[-1])
    return f"{flops / scale:.3g} {unit}FLOPs"
