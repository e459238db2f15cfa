"""`jaxvision train`: trains a config in a workdir."""

import contextlib
import importlib.util
import json
import shlex
import time
import uuid
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax
from ml_collections import ConfigDict
from rich.table import Table

from jaxvision import checks, launches, loggers, own_modules, storage
from jaxvision import config as configs
from jaxvision import experiment as experiments
from jaxvision import workdir as workdirs
from jaxvision.commands.profile import profiling
from jaxvision.commands.restore import saved_statistics
from jaxvision.commands.shown import Made, shown
from jaxvision.data.fingerprint import fingerprint
from jaxvision.data.sources import Source
from jaxvision.errors import UserError
from jaxvision.experiment import Experiment
from jaxvision.locks import Lock
from jaxvision.loggers.base import Run, name_of
from jaxvision.models.weights import Imported
from jaxvision.parallel import agreement, peers
from jaxvision.parallel.distributed import any_process, assert_equal_across_processes, is_main, together
from jaxvision.step_costs import flops_of
from jaxvision.storage import Path
from jaxvision.train import finite, loop, skips
from jaxvision.train.best import Best, make_best
from jaxvision.train.checkpoint import Checkpoints, Saved
from jaxvision.train.feed import Feed
from jaxvision.train.goodput import Goodput, words
from jaxvision.train.journal import Journal, carried
from jaxvision.train.metrics import NoRecords, Records
from jaxvision.train.observers import Observers
from jaxvision.train.profiler import Steps, parse_steps
from jaxvision.train.progress import Reporter, console, number
from jaxvision.train.state import TrainState
from jaxvision.train.throughput import Throughput, peak_flops
from jaxvision.train.watch import to_its_end
from jaxvision.train.watchdog import Watchdog


class _Request(NamedTuple):
    """The arguments of `run_train`, checked."""

    config: ConfigDict
    workdir: Path
    fresh: bool
    resume: bool
    stop_after: int | None
    quiet: bool
    profile: Steps | None
    made: Made | None


class _Opened(NamedTuple):
    """Everything that a run reads from outside its workdir."""

    experiment: Experiment
    step: jax.stages.Wrapped
    throughput: Throughput
    evaluations: list[loop.Evaluation]
    feed: Feed
    best: Best | None


class _Start(NamedTuple):
    """The state from which a launch starts, and what its checkpoint carries for the journal (None for a new run)."""

    state: TrainState
    progress: Mapping[str, Any] | None
    notes: tuple[str, ...]  # lines about the weights that a new run starts from

    @property
    def step(self) -> int:
        return int(self.state.step)


@to_its_end
def run_train(
    config: ConfigDict,
    workdir: str | Path,
    *,
    fresh: bool = False,
    resume: bool = False,
    stop_after: int | None = None,
    quiet: bool = False,
    began: float | None = None,
    profile: str | None = None,
    made: Made | None = None,
) -> dict[str, float]:
    """Trains `config` in `workdir`, from its latest checkpoint if there is one.

    Args:
      config: Config, as `get_config` returns it.
      workdir: Folder of the run, which may be gs://BUCKET/NAME.
      fresh: True to move an earlier run in the folder aside first; see `workdir.claim`.
      resume: True to resume a run in the folder under `config`, even if it was started with another config.
      stop_after: Step after which to stop, as a signal would.
      quiet: True to print nothing, and to keep no console.txt.
      began: Time at which the launch began, by `time.perf_counter()`, for the account of its time; None for now.
      profile: Steps of which to record a trace, see `profiler.parse_steps`; None for none.
      made: Python file and description of a config that was made for this run; None for any other config.

    Returns:
      The results of the last evaluations, `{"NAME/metric": value}`; those of a finished run are read.

    Raises:
      UserError: Something in the config, the data or the folder does not fit. If this is found before the first step,
        nothing has been written.
      Preempted: A signal arrived; the state is saved, and the same call resumes the run.
    """
    goodput = Goodput(began)
    # A block `together` holds work that may fail in one process only; then all processes end. Nothing is written before
    # the workdir is claimed.
    with together("reading the config"):
        config = configs.normalised(config)
    workdir = storage.path(workdir, "--workdir")
    recorded = None if profile is None else parse_steps(profile)
    request = _Request(config, workdir, fresh, resume, stop_after, quiet or not is_main(), recorded, made)
    _agree(config, workdir=str(workdir), fresh=fresh, resume=resume, stop_after=stop_after)
    saved = Saved(workdir)
    steps = saved.steps()
    statistics = None if fresh else saved_statistics(saved)
    with together("building the experiment"):
        own_modules.check_outside(workdir, config.to_dict())
        loggers.read_entries(config.get("loggers"))
        experiment = experiments.build(config, statistics=statistics)
        workdirs.check(workdir, config, fresh=fresh, resume=resume)
    if finished := _finished(request):
        return _report_finished(finished, request)
    with together("opening evaluations and data"):
        step = experiment.step()
        traced = experiment.trace(step)
        throughput = Throughput(experiment.data.batch_size, flops_of(traced) if peak_flops() else None)
        evaluations = experiment.evaluations()
        best = make_best(experiment.train, evaluations, experiment.durations)
        opened = _Opened(experiment, step, throughput, evaluations, experiment.feed(), best)
    _agree_on_data(experiment.source, workdir, fresh)
    with _writing(request) as lock:
        if finished := _finished(request):  # by the process that held the lock before
            return _report_finished(finished, request)
        if any_process(saved.steps() != steps):
            saved = Saved(workdir)
        with together("making the loggers"):
            observers = _observers(request) if is_main() else None
        # What the loggers say while they end is still kept in console.txt.
        with contextlib.ExitStack() as after_loggers, observers or contextlib.nullcontext():
            return _train(request, opened, saved, lock, goodput, observers, after_loggers)


@contextlib.contextmanager
def _writing(request: _Request) -> Iterator[Lock | None]:
    """Holds the lock of the workdir in process 0, and then checks the workdir; the other processes get None."""
    with contextlib.ExitStack() as stack:
        with together("taking the workdir"):
            lock = stack.enter_context(workdirs.writer(request.workdir)) if is_main() else None
        with together("looking at the workdir"):
            workdirs.check(request.workdir, request.config, fresh=request.fresh, resume=request.resume)
        yield lock


def _observers(request: _Request) -> Observers:
    """Makes the loggers of the run, which may raise a UserError; nothing is written yet."""
    workdir, config = request.workdir, request.config
    run_id = launches.run_id(workdir) if not request.fresh else uuid.uuid4().hex
    run = Run(name_of(workdir), run_id, workdir, config.to_dict())
    return Observers(loggers.read_entries(config.get("loggers")), run)


def _train(
    request: _Request,
    opened: _Opened,
    saved: Saved,
    lock: Lock | None,
    goodput: Goodput,
    observers: Observers | None,
    after_loggers: contextlib.ExitStack,
) -> dict[str, float]:
    """Claims the workdir, trains, and writes the results; `after_loggers` is closed when the loggers have ended."""
    experiment, workdir = opened.experiment, request.workdir
    may_write = lock.check if lock is not None else lambda: None
    with launches.account(workdir, goodput, may_write) as account, contextlib.ExitStack() as stack:
        stack.enter_context(Watchdog(workdir, experiment.train.hang_timeout, jax.process_index()))
        start = _start(request, experiment, saved, goodput)
        with together("claiming the workdir"):
            if is_main():
                workdirs.claim(workdir, request.config, fresh=request.fresh, resume=request.resume, lock=lock)
        checkpoints = stack.enter_context(Checkpoints(workdir, experiment.train.keep, saved.damaged))
        progress = start.progress or {}
        journal = Journal(start.step, progress, opened.feed.bad, workdir if is_main() else None)
        journal.recheck(experiment.bad_example)
        if is_main():
            run = observers.run.id if observers else None
            launches.record_launch(workdir, request.config, start.step, start.notes, resume=request.resume, run=run)
            account.begin(start.step)
        records = NoRecords() if lock is None else Records(workdir, start.step, lock.check, lines=progress.get("lines"))
        stack.enter_context(contextlib.closing(records))
        show = after_loggers.enter_context(shown(None if request.quiet else lock, workdir, start.step, request.made))
        for line in _header(experiment, workdir, start):
            show(line)
        of_evaluations = [line for evaluation in opened.evaluations for line in evaluation.cautions]
        for line in dict.fromkeys([*checks.cautions_of(experiment), *of_evaluations]):
            show(line)
        stack.enter_context(peers.explaining())  # before checkpoints are closed, which would wait for the dead
        stack.enter_context(_noting_skips(workdir))
        reporter = Reporter(start.step, experiment.total, request.quiet, experiment.task.progress, show.keep)
        if observers is not None:
            observers.begin(start.step, reporter.note)
        recorded = request.profile if is_main() else None
        profiler = stack.enter_context(profiling(recorded, workdir, goodput, experiment.total, request.quiet))
        began = time.perf_counter()
        looping = loop.Loop(
            start.state,
            experiment.runner(opened.step, opened.feed.fetch, finite.from_json(progress.get("guard"))),
            opened.feed,
            experiment.schedule,
            evaluations=opened.evaluations,
            checkpoints=checkpoints,
            meta=experiment.metadata | {"versions": workdirs.versions()},
            records=records,
            reporter=reporter,
            throughput=opened.throughput,
            extra=lambda updates: experiment.optimizer.rates(updates - 1),
            journal=journal,
            goodput=goodput,
            stop_after=request.stop_after,
            tell=observers,
            profiler=profiler,
            best=opened.best,
        )
        _, results = looping.run()
        best, early = opened.best, looping.step < experiment.total
        with goodput.spent("checkpoint"):
            checkpoints.wait()
        seconds = time.perf_counter() - began
        if lock is not None:
            lock.check()
            numbers = {"steps": looping.step, "seconds": round(seconds, 1), "results": results}
            if best is not None:
                numbers |= {"ended": best.reason if early else f"all {experiment.total:,} steps were taken"}
                numbers |= {"best": best.record()}
            workdirs.write_json(workdir / "results.json", numbers)
        if observers is not None:
            observers.results = results
        if best is not None and early:
            show(f"ended early after step {looping.step:,} of {experiment.total:,}: {best.reason}")
        for one in _results(results, workdir, best.record() if best is not None else None):
            show(one)
    if not request.quiet:
        _print_times(account)
    return results


def _start(request: _Request, experiment: Experiment, saved: Saved, goodput: Goodput) -> _Start:
    """Restores the newest good checkpoint, or makes the state of a new run."""
    resuming = not request.fresh and saved.newest() is not None
    with together("reading the weights to start from"):
        pretrained = None if resuming else experiment.load_pretrained()
    _agree_on_weights(pretrained)
    if resuming:
        with goodput.spent("restore"):
            state = _restored(saved, experiment, request.workdir)
            start = _Start(state, carried(saved.meta(int(state.step)), experiment.metadata["config"]), ())
    else:
        start = _Start(experiment.initial_state(pretrained), None, pretrained.notes if pretrained else ())
    assert_equal_across_processes(start.step, "the step to start from")
    return start


def _finished(request: _Request) -> dict[str, Any] | None:
    """Returns results.json of a finished run, unless the command trains it again or further."""
    return None if request.fresh or request.resume else workdirs.results(request.workdir)


def _report_finished(finished: dict[str, Any], request: _Request) -> dict[str, float]:
    if not request.quiet:
        console().print(f"{request.workdir} is finished ({finished['steps']} steps).")
        for line in _results(finished["results"], request.workdir, finished.get("best")):
            console().print(line, markup=False)
        if request.profile is not None:
            console().print(
                "no profile: the run is finished, so this launch took no step. To profile its config, train it in "
                "another --workdir, or with --fresh, which moves this run aside",
                markup=False,
            )
    return finished["results"]


def _print_times(account: launches.Account) -> None:
    out = console()
    out.print(f"time of this launch, {words(account.launch)}")
    if account.all["launches"] > 1:
        out.print(f"time of all {account.all['launches']} launches, {words(account.all)}")


@contextlib.contextmanager
def _noting_skips(workdir: Path) -> Iterator[None]:
    """Leaves skipped.json in the workdir of a run that ends because it skips too many steps."""
    try:
        yield
    except skips.TooManySkipped as error:
        if is_main():
            workdirs.write_json(workdir / "skipped.json", error.report)
        raise


def _agree(config: ConfigDict, **flags: str | bool | int | None) -> None:
    """Raises a UserError in every process if their configs, flags, code or devices differ."""
    if jax.process_count() == 1:
        return
    facts = {
        "config": json.loads(configs.to_json(config)),
        "flags": flags,
        "code": workdirs.code(config.to_dict()),
        "devices": agreement.devices(),
    }
    agreement.check_equal(facts, "config, flags, code or devices")


def _agree_on_data(source: Source | None, workdir: Path, fresh: bool) -> None:
    """Raises a UserError in every process if they see different data or another state of the run.

    Call it before anything is written.
    """
    if jax.process_count() == 1:
        return
    with together("looking at the data"):
        facts = {
            "data": source and fingerprint(source),
            "workdir": {"steps": [] if fresh else Saved(workdir).steps(), "finished": bool(workdirs.results(workdir))},
        }
    agreement.check_equal(facts, "the data or the workdir that they see")


def _agree_on_weights(pretrained: Imported | None) -> None:
    """Raises a UserError in every process if they read different weights, such as two commits of one name on the hub.

    The notes are compared without those that name a file, which may lie elsewhere on each machine.
    """
    if pretrained is None:
        return
    hosted = [note for note in pretrained.notes if note.startswith("init: hf:")]
    agreement.check_arrays(pretrained.variables, "the weights to start from (config.init)", read=hosted)


def _restored(saved: Saved, experiment: Experiment, workdir: Path) -> TrainState:
    """Returns the state of the newest good checkpoint; raises a UserError if it does not fit the config."""
    state = saved.restore(experiment.abstract_state())
    if int(state.step) > experiment.total:
        raise UserError(
            f"{workdir} holds step {int(state.step)}, beyond train.total ({experiment.total} steps): raise train.total"
        )
    return state


def _header(experiment: Experiment, workdir: Path, start: _Start) -> list[str]:
    count = sum(x.size for x in jax.tree.leaves(experiment.abstract_state().params))
    first = (
        f"{experiment.config.model.name}: {count:,} parameters; {experiment.info.name} {experiment.info.split}: "
        f"{experiment.info.num_examples:,} examples; {experiment.total:,} steps of {experiment.data.batch_size} on "
        f"{jax.device_count()} {jax.devices()[0].device_kind} device(s)"
    )
    return [first, *([f"resuming from step {start.step} of {workdir}"] if start.step else []), *start.notes]


def _results(results: dict[str, float], workdir: Path, best: Mapping[str, Any] | None) -> list[Table | str]:
    table = Table("result", "value")
    for name, value in results.items():
        table.add_row(name, number(name, value))
    last = f"finished: {workdir}/ (results.json, metrics.jsonl, tensorboard/, checkpoints/)"
    lines: list[Table | str] = [*([table] if results else []), last]
    if best is not None:
        said = "not finite" if best["value"] is None else number(best["metric"], best["value"])
        lines.insert(-1, f"best {best['metric']}: {said} at step {best['step']:,}, the checkpoint of --step=best")
    if importlib.util.find_spec("tensorboard") is not None:
        lines.append(f"curves: tensorboard --logdir={shlex.quote(str(workdir))}")
    return lines
