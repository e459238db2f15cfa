"""Trains many runs as one program, for models too small to fill a device.

Members whose configs differ only in numbers that can be stacked (`sweep.stacking`) share a program: parameters,
optimizer states and those numbers get an axis over the members. Members that differ otherwise are trained in further
programs, one after the other.
"""

import hashlib
import json
import logging
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from jax.sharding import Mesh

from jaxvision import config as configs
from jaxvision import experiment as experiments
from jaxvision import launches, storage, transfer
from jaxvision import workdir as workdirs
from jaxvision.data.host_ops import host_ops
from jaxvision.data.sources import Source
from jaxvision.errors import UserError
from jaxvision.locks import Lock
from jaxvision.models import weights
from jaxvision.parallel.mesh import make_mesh, replicate
from jaxvision.step_costs import flops_of
from jaxvision.sweep.stacking import Group, Member, groups, overrides
from jaxvision.train import loop, population
from jaxvision.train.checkpoint import Checkpoints, Saved
from jaxvision.train.journal import PROGRESS, Journal
from jaxvision.train.metrics import Records
from jaxvision.train.progress import Reporter, console
from jaxvision.train.throughput import Throughput, peak_flops
from jaxvision.train.watch import to_its_end
from jaxvision.train.watchdog import Watchdog

__all__ = ["Member", "train"]


class AllDiverged(Exception):
    """All members have diverged, so none is left to train."""


def train(
    members: Sequence[Member], out: str | Path, *, at_once: bool | None = None, quiet: bool = False
) -> list[dict[str, float] | None]:
    """Trains all members; those that can be stacked share one program.

    The results of a member are those of its own run up to the rounding of batched operations
    (tests/sweep/test_population.py states the tolerances). Its workdir gets config.json, run.json, metrics.jsonl,
    results.json and a checkpoint of the last step. The throughput in its logs is that of the whole program; its seconds
    are a share of the program's. A member that diverges gets failed.json, `{"error": ..., "step": ...}`, instead of
    results and checkpoint, and the others continue.

    The members are distributed over the devices, each whole on one device: the section `mesh` of the configs is
    ignored.

    Args:
      members: Members with different workdirs. Programs that have ended are skipped.
      out: Folder for the checkpoints of unfinished programs; call `train` again with the same folder to resume.
      at_once: True to train the members of a program at once, see `train.population.make_runner`; None for True except
        on the CPU.
      quiet: True to print nothing.

    Returns:
      The results of each member's last evaluations, `{"NAME/metric": value}`; None if it diverged.

    Raises:
      UserError: If a config has a mistake, a workdir holds a run of another config, there are several processes, or
        members with different seeds share a stream whose host operations draw random numbers.
      Preempted: If the process was asked to stop; the state is saved, and the same call resumes.
    """
    if jax.process_count() > 1:
        raise UserError(f"a population is trained by one process, not {jax.process_count()}")
    out = storage.local(out, "the folder of a population")
    at_once = jax.default_backend() != "cpu" if at_once is None else at_once
    programs = groups(members)
    for number, group in enumerate(programs, 1):
        if all(_has_ended(member.workdir) for member in group.members):
            for member in group.members:
                workdirs.check(member.workdir, member.config)  # an error if it ended with another config
            continue
        if not quiet:
            differ = f" that differ in {', '.join(group.values)}" if group.values else ""
            console().print(f"program {number} of {len(programs)}: {len(group.members)} members{differ}", markup=False)
        with ExitStack() as held:
            _train_group(group, out, at_once, quiet, held)
    return [(workdirs.results(member.workdir) or {}).get("results") for member in members]


def _has_ended(workdir: Path) -> bool:
    return any((workdir / name).is_file() for name in ("results.json", "failed.json"))


@to_its_end
def _train_group(group: Group, out: Path, at_once: bool, quiet: bool, held: ExitStack) -> None:
    """Trains one program and fills the workdirs of its members; `held` gets their locks."""
    began = time.perf_counter()
    count = len(group.members)
    mesh, size = _layout(count, jax.devices() if at_once else jax.devices()[:1])
    one = experiments.build(group.members[0].config)
    traced = one.trace(one.step())  # in its own mesh
    flops = flops_of(traced) if peak_flops() else None
    experiment = one._replace(mesh=mesh)
    if one.train.keep_best is not None:
        raise UserError(
            "runs that train together all train to the end and keep their last checkpoint: leave out train.keep_best, "
            "or take another --launcher"
        )

    def vary(values: Mapping[str, Any]) -> experiments.Experiment:
        return experiment.vary(overrides(experiment.config, values))

    variants = [vary({key: row[i] for key, row in group.values.items()}) for i in range(count)]  # checks them all
    pretrained = experiment.load_pretrained()
    # Padding: copies of the first member, whose results are dropped, make the size a multiple of the devices.
    values = {key: _filled(row, size) for key, row in group.values.items()}
    feed = (_with_own_rows(experiment, values["seed"]) if "seed" in values else experiment).feed()
    evaluations = [_of_members(evaluation, count, mesh) for evaluation in experiment.evaluations()]
    for member in group.members:
        workdirs.check(member.workdir, member.config)  # all of them, before the first is claimed
    locks = [held.enter_context(workdirs.writer(member.workdir)) for member in group.members]
    for member, lock in zip(group.members, locks):
        workdirs.claim(member.workdir, member.config, lock=lock)

    arrays: dict[str, Any] = {key: _array(key, row) for key, row in values.items()}
    init = population.initializer(lambda values: vary(values).init(), arrays, size)
    places = population.shardings(init, mesh)
    runner = population.make_runner(
        lambda values: vary(values).step(),
        feed.fetch,
        places,
        members=size,
        count=count,
        shared="seed" not in values,
        at_once=at_once,
    )
    folder = out / f"program-{_fingerprint(group)}"
    with ExitStack() as stack:
        stack.enter_context(Watchdog(folder, experiment.train.hang_timeout))
        saved, progress = Saved(folder), None
        if saved.newest() is not None:
            state: Any = saved.restore(cast(Any, population.abstract(init, places)))  # a Population
            progress = saved.meta(int(state.step)).get(PROGRESS)
        else:
            state = _initial_state(init, places, size, pretrained)
        if any(member.config.get("loggers") for member in group.members):
            logging.getLogger(__name__).warning(
                "runs that train together tell nothing to loggers; the metrics.jsonl of each has its numbers"
            )
        checkpoints = stack.enter_context(Checkpoints(folder, damaged=saved.damaged))
        first = int(state.step)
        for member in group.members:
            launches.record_launch(member.workdir, member.config, first, pretrained.notes if pretrained else ())

        def run(*arguments: Any) -> tuple[population.Population, Any]:
            nonlocal state  # so that the last state is kept if the loop ends early
            state, metrics = runner(*arguments)
            return state, metrics

        records = _Records([m.workdir for m in group.members], first, locks, progress and progress["lines"])
        results: dict[str, float] = {}
        with suppress(AllDiverged):
            _, results = loop.Loop(
                state,
                run,
                feed._replace(constants=(replicate(arrays, mesh), feed.constants)),
                experiment.schedule,
                evaluations=evaluations,
                checkpoints=checkpoints,
                meta={"members": [str(member.workdir) for member in group.members]},
                records=cast(Records, stack.enter_context(closing(records))),
                reporter=_Reporter(first, experiment.total, quiet, experiment.task.progress),
                throughput=Throughput(count * experiment.data.batch_size, flops and count * flops),
                extra=_learning_rates(variants),
                journal=Journal(first, progress, feed.bad),
            ).run()
    seconds = (time.perf_counter() - began) / count
    for i, member in enumerate(group.members):
        variant = variants[i]._replace(config=member.config)
        _finish(member.workdir, variant, state, i, population.of_member(results, i), seconds)
    shutil.rmtree(folder)


def _initial_state(
    init: Callable[[], population.Population],
    places: population.Population,
    size: int,
    pretrained: weights.Imported | None,
) -> population.Population:
    state = jax.jit(init, out_shardings=places)()
    if pretrained is None:
        return state
    repeat = lambda x: np.broadcast_to(x, (size, *x.shape)) if isinstance(x, np.ndarray) else x  # no array: a new head
    return state._replace(members=transfer.fill(state.members, jax.tree.map(repeat, pretrained.variables)))


def _learning_rates(variants: Sequence[experiments.Experiment]) -> Callable[[int], dict[str, float]]:
    return lambda step: {
        population.name_of(name, i): rate
        for i, variant in enumerate(variants)
        for name, rate in variant.optimizer.rates(step - 1).items()
    }


def _finish(
    workdir: Path,
    experiment: experiments.Experiment,
    state: population.Population,
    index: int,
    results: dict[str, float],
    seconds: float,
) -> None:
    """Writes to the workdir of a member what its own run would have written, or that it diverged."""
    member = state.member(index, experiment.mesh)
    if int(member.step) < experiment.total or int(state.guards.in_a_row[index]) > experiment.train.max_skipped:
        step, skipped = int(member.step), int(state.guards.in_a_row[index])
        error = f"the loss, gradient or update of step {step} is not finite; it is skipped step {skipped} in a row"
        workdirs.write_json(workdir / "failed.json", {"error": error, "step": step})
        return
    with Checkpoints(workdir, experiment.train.keep) as checkpoints:
        checkpoints.save(member, experiment.metadata | {"versions": workdirs.versions()})
    numbers = {"steps": experiment.total, "seconds": round(seconds, 1), "results": results}
    workdirs.write_json(workdir / "results.json", numbers)


def _layout(count: int, devices: Sequence[jax.Device]) -> tuple[Mesh, int]:
    """A mesh of at most as many devices as there are members, and the number of members after padding."""
    used = max(n for n in range(1, min(count, len(devices)) + 1) if len(devices) % n == 0)
    return make_mesh(devices=devices[:used]), math.ceil(count / used) * used


def _filled(values: Sequence[float], size: int) -> list[float]:
    return [*values, *[values[0]] * (size - len(values))]


def _array(key: str, values: Sequence[float]) -> np.ndarray:
    # A seed beyond 32 bits wraps, as in `jax.random.key` of a Python number.
    return np.array(values, np.int64).astype(np.int32) if key == "seed" else np.array(values, np.float32)


def _fingerprint(group: Group) -> str:
    runs = [(str(member.workdir), configs.fingerprint(member.config)) for member in group.members]
    return hashlib.sha256(json.dumps(runs).encode()).hexdigest()[:12]


def _with_own_rows(experiment: experiments.Experiment, seeds: Sequence[float]) -> experiments.Experiment:
    """The experiment with batches that hold the rows of each seed, one seed after the other."""
    data = experiment.data
    if host_ops.is_random(data.host):
        raise UserError(
            f"data.host={data.host!r} draws random numbers, which members of different seeds cannot share: give all "
            "members one seed, or crop on the device, in config.augment"
        )
    assert experiment.source is not None  # it was built with its training data
    source = _Interleaved(experiment.source, seeds, data.batch_size)
    return experiment._replace(source=source, data=data._replace(batch_size=data.batch_size * len(seeds)))


class _Interleaved(Source):
    """A source whose training stream takes `rows` examples from the stream of each seed in turn."""

    def __init__(self, source: Source, seeds: Sequence[float], rows: int):
        self.info, self._source, self._seeds, self._rows = source.info, source, seeds, rows

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self._source[index]

    def describe(self, index: int) -> str:
        return self._source.describe(index)

    def order(self, seed: int, start: int, stop: int) -> np.ndarray:
        """Interleaves the streams of the seeds given to `__init__`; `seed` is ignored."""
        turn = self._rows * len(self._seeds)
        first, last = start // turn * self._rows, -(-stop // turn) * self._rows
        orders = [self._source.order(cast(int, member_seed), first, last) for member_seed in self._seeds]
        streams = [order.reshape(-1, self._rows) for order in orders]
        return np.stack(streams, axis=1).ravel()[start % turn :][: stop - start]


def _of_members(evaluation: loop.Evaluation, count: int, mesh: Mesh) -> loop.Evaluation:
    """The evaluation of every member that has not diverged, one after the other."""

    def run(state: population.Population) -> dict[str, float]:
        results: dict[str, float] = {}
        for i in np.flatnonzero(jax.device_get(state.training)[:count]):
            of_member = evaluation.run(state.member(int(i), mesh))
            results |= {population.name_of(name, int(i)): value for name, value in of_member.items()}
        return results

    # The loop passes it a Population. Each evaluation gets new arrays of a member, so they share nothing.
    return evaluation._replace(run=cast(Any, run), expect=lambda state: None)


class _Records:
    """Writes the numbers of each member that is still training to the files of its own run."""

    def __init__(self, workdirs: Sequence[Path], start: int, locks: Sequence[Lock], lines: Sequence[int] | None = None):
        starts: Sequence[int | None] = lines or [None] * len(workdirs)
        self._records = [
            Records(workdir, start, lock.check, lines=written)
            for workdir, lock, written in zip(workdirs, locks, starts)
        ]

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Raises AllDiverged if no member is left."""
        shared = {name: value for name, value in values.items() if "@" not in name}
        members = [population.of_member(values, i) for i in range(len(self._records))]
        training = [i for i, member in enumerate(members) if member and not member.pop("stopped", 0)]
        for i in training:
            self._records[i].write(step, shared | members[i])
        if "loss" in values and not training:
            raise AllDiverged

    def mark(self, step: int) -> list[int]:
        return [records.mark(step) for records in self._records]

    def flush(self) -> None:
        for records in self._records:
            records.flush()

    def close(self) -> None:
        for records in self._records:
            records.close()


class _Reporter(Reporter):
    """Shows means over the members. The evaluations of single members are in their files only."""

    def note(self, text: str) -> None:
        pass
