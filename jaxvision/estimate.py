"""Estimates the cost of runs before they start: parameters, FLOPs, steps, and where the time goes on these devices."""

import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision import durations, evaluations, input_costs, inputs, step_costs
from jaxvision.components import PRECISIONS
from jaxvision.sections import DataSection, TrainSection
from jaxvision.train.progress import duration

# Speed of a training step as a share of that of large matrix products, for steps that are not tried. That of the CPU is
# the middle of what benchmarks/estimates.py measures, see `estimate`; those of accelerators are assumed, within the
# bounds of `plan.MFU_PRODUCTS`.
UTILISATION = {"cpu": 0.18, "gpu": 0.35, "tpu": 0.35}
LONGEST_TRIED = 2.0  # seconds of the longest step that is tried
# Seconds to open the records of a run, and of a checkpoint; the time to load a program, and to compile all others of a
# run (initial state, evaluations), as a share of that to compile the step. They are rounded, for two CPU cores without
# other load; `python benchmarks/estimates.py` measures them.
STARTING, CHECKPOINT, LOADED, OTHERS = 0.3, 0.1, 0.1, 1.0
_MATRIX = {"cpu": 1024, "gpu": 4096, "tpu": 4096}  # side of the matrices that are timed, by platform
_TIMED = 0.4  # seconds for which the products are timed
_UNITS = ((1e18, "exa"), (1e15, "peta"), (1e12, "tera"), (1e9, "giga"))
_IMPORTED = time.process_time()  # of this process until here, most of it for imports


class Estimate(NamedTuple):
    """The cost of one run.

    Attributes:
      parameters: Number of trained numbers in the model.
      flops_per_step: FLOPs of the convolutions and matrix products in a step; a multiply-add counts as two.
      steps: Number of steps.
      examples: Number of examples in all steps, with repetitions.
      seconds: Duration of the steps on the devices of this process and its peers; rough, see `estimate`.
      program: Text that is equal for runs that share their compiled programs, but for the step.
      fixed: Seconds to build the experiment, load its programs, and read a set that is held in memory.
      compiling: Seconds to compile its step, which only the first run of a step needs.
      evaluating: Duration of the evaluations.
      saving: Duration of the checkpoints.
      step: Text that is equal for runs that share their compiled step.
      compiled: True if this process has compiled the step.
    """

    parameters: int
    flops_per_step: float
    steps: int
    examples: int
    seconds: float
    program: str = ""
    fixed: float = 0.0
    compiling: float = 0.0
    evaluating: float = 0.0
    saving: float = 0.0
    step: str = ""
    compiled: bool = True

    @property
    def flops(self) -> float:
        """FLOPs of the whole run, without its evaluations."""
        return self.flops_per_step * self.steps

    @property
    def whole(self) -> float:
        """Seconds of the run, if its programs are compiled already."""
        return self.seconds + self.fixed + self.evaluating + self.saving


def estimate(config: ConfigDict, *, tried: bool = False) -> Estimate:
    """Counts the work of a run and, if the config gives the size of the data, does so without the data.

    FLOPs are those of the traced step, forward and backward, including kernel positions on padding
    (`accounting.macs`). For frozen parameters, a step has no gradient to compute, and so these have none.

    With `tried`, the time is that of steps that are tried here, unless one takes longer than some seconds. Otherwise it
    is FLOPs / (`UTILISATION` * measured speed of matrix products), and rough. On two CPU cores the share was 0.18 and
    0.15 for ResNets of 8 and 20 layers, 0.10 for LeNet, 0.18 and 0.35 for small ViTs (`python benchmarks/estimates.py`,
    jax 0.10.2, beside other jobs), so there the time is right within a factor of two; on accelerators the share is
    assumed, not measured.

    Evaluations take the time of the forward pass of their examples, a third of training if nothing is frozen; those of
    sets that are not here, and what their evaluators do after it, are left out. With `tried`, the time to read the data
    counts, if they are here.

    Args:
      config: Config of the run.
      tried: True to try the step here, which compiles it, and to read some examples.

    Raises:
      UserError: If the step cannot be built from the config, or its length is unknown.
    """
    configs.check_sections(config)
    data = configs.call(DataSection, config.data, "data")
    train = configs.call(TrainSection, config.train, "train")
    info = inputs.open_or_describe(data, "ignored")[1]
    steps = durations.steps(train.total, batch_size=data.batch_size, examples=info.num_examples)
    cost = step_costs.step_cost(config)
    platform = jax.default_backend()
    devices = jax.process_count() if platform == "cpu" else jax.device_count()  # devices of a CPU share its cores
    speed = matmul_flops(train.precision) * devices * UTILISATION.get(platform, 0.35)
    step, compiling = cost.flops / speed, 0.0
    if tried and step < LONGEST_TRIED and jax.process_count() == 1:
        compiling, step = step_costs.try_step(config)

    reading = input_costs.measure_reading(data, train) if tried else input_costs.Reading(0.0, held=False)
    read = info.num_examples if reading.held else 0
    waiting = 0.0 if reading.held else steps * data.batch_size * reading.seconds
    if platform != "cpu":  # where the devices compute while the host reads
        waiting = max(0.0, waiting - steps * step)

    to_steps = lambda every: durations.steps(every, batch_size=data.batch_size, examples=info.num_examples, total=steps)
    passed = 0
    opened: dict[str, int] = {}
    for entry in evaluations.read_entries(config.get("evals")):
        splits = input_costs.evaluated_splits(entry.common, data)
        passed += _times(to_steps(entry.common.every), steps) * sum(splits.values())
        opened |= splits
    evaluated = sum(opened.values()) if reading.held else passed  # small sets stay in memory
    forward = cost.forward / cost.flops if cost.flops else 0.0  # share of a step; the model `identity` computes nothing
    return Estimate(
        cost.parameters,
        cost.flops,
        steps,
        steps * data.batch_size,
        steps * step + waiting,
        step_costs.program_key(config),
        STARTING + cost.building + LOADED * compiling + read * reading.seconds,
        compiling,
        passed / data.batch_size * step * forward + evaluated * reading.seconds,
        _times(to_steps(train.checkpoint_every), steps) * CHECKPOINT,
        step_costs.step_key(config),
        step_costs.is_compiled(config),
    )


def _times(every: int, steps: int) -> int:
    """Counts the multiples of an interval up to the last step, and the last step.

    >>> _times(4, 10), _times(5, 10), _times(0, 10)
    (3, 2, 1)
    """
    return 1 + ((steps - 1) // every if every else 0)


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


class Time(NamedTuple):
    """Where the time of several runs goes, in seconds.

    Attributes:
      steps: Seconds of the steps.
      evaluations: Seconds of the evaluations.
      checkpoints: Seconds of the checkpoints.
      starting: Seconds to start processes, build and compile.
    """

    steps: float
    evaluations: float
    checkpoints: float
    starting: float

    @property
    def whole(self) -> float:
        """Sum of all."""
        return sum(self)


def time_of(estimates: Sequence[Estimate], *, launched: bool = False, parallel: int = 1) -> Time:
    """Adds up the time of several runs.

    Runs at the same time share the devices: their steps take as long as one after the other, but what one core does,
    such as imports and compilation, takes place at the same time.

    Args:
      estimates: Estimate of each run.
      launched: True if each run is a process of its own, which imports everything first.
      parallel: Number of runs at once.
    """
    at_once = max(1, min(parallel, os.cpu_count() or 1, len(estimates)))
    # This process has compiled some steps; launched ones compile them again, all that begin at the same time.
    new = estimates if launched else [one for one in estimates if not one.compiled]
    times = at_once if launched else 1
    compiling = _compiling(new, lambda one: one.step, times)
    compiling += OTHERS * _compiling(estimates, lambda one: one.program, times)
    starting = sum(one.fixed + (_IMPORTED if launched else 0.0) for one in estimates) + compiling
    saving = sum(one.saving for one in estimates)
    return Time(
        sum(one.seconds for one in estimates),
        sum(one.evaluating for one in estimates),
        saving / at_once,
        starting / at_once,
    )


def _compiling(estimates: Sequence[Estimate], key: Callable[[Estimate], str], at_once: int) -> float:
    """Seconds to compile the steps of runs, once for each key, and by as many as begin with it at the same time."""
    runs, seconds = Counter(map(key, estimates)), {key(one): one.compiling for one in estimates}
    return sum(seconds[name] * min(count, at_once) for name, count in runs.items())


def words(estimates: Sequence[Estimate], *, launched: bool = False, parallel: int = 1) -> str:
    """Describes the total cost of several runs.

    Args:
      estimates: Estimate of each run.
      launched: True if each run is a process of its own.
      parallel: Number of runs at once.

    >>> words([Estimate(10_000, 2e9, 1_000, 32_000, 20.0, fixed=5.0)] * 18).partition(" on ")[0]
    '18 runs, 36 teraFLOPs, about 7m30s'
    """
    count, device = len(estimates), jax.devices()[0]
    runs = f"{count} run" if count == 1 else f"{count} runs"
    where = "this CPU" if device.platform == "cpu" else f"{jax.device_count()} {device.device_kind}"
    spent = time_of(estimates, launched=launched, parallel=parallel)
    parts = [f"{name} {duration(seconds)}" for name, seconds in spent._asdict().items() if seconds >= 0.5]
    flops = flops_words(sum(estimate.flops for estimate in estimates))
    return f"{runs}, {flops}, about {duration(spent.whole)} on {where} ({', '.join(parts)})"


def flops_words(flops: float) -> str:
    """Formats a number of FLOPs with its unit.

    Args:
      flops: Number of floating-point operations.

    >>> flops_words(4.2e17), flops_words(3e6)
    ('420 petaFLOPs', '0.003 gigaFLOPs')
    """
    scale, unit = next(((scale, unit) for scale, unit in _UNITS if flops >= scale), _UNITS[-1])
    return f"{flops / scale:.3g} {unit}FLOPs"
