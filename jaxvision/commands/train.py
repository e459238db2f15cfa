"""`jaxvision train`: train a config in a workdir."""

import contextlib
import json
import time
from collections.abc import Iterator

import jax
from ml_collections import ConfigDict
from rich.table import Table

from jaxvision import config as configs
from jaxvision import experiment as experiments
from jaxvision import launches, own_modules, storage
from jaxvision import workdir as workdirs
from jaxvision.commands.restore import saved_statistics
from jaxvision.data.fingerprint import fingerprint
from jaxvision.data.sources import Source
from jaxvision.errors import UserError
from jaxvision.parallel import agreement, peers
from jaxvision.parallel.distributed import any_process, assert_equal_across_processes, is_main, together
from jaxvision.storage import Path
from jaxvision.train import finite, loop, skips
from jaxvision.train.checkpoint import Checkpoints, Saved
from jaxvision.train.goodput import Goodput, words
from jaxvision.train.journal import Journal, carried
from jaxvision.train.metrics import NoRecords, Records
from jaxvision.train.progress import Reporter, console, duration, number, print_cautions
from jaxvision.train.state import TrainState
from jaxvision.train.throughput import Throughput
from jaxvision.train.watch import to_its_end
from jaxvision.train.watchdog import Watchdog


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
) -> dict[str, float]:
    """Trains `config` in `workdir`, from its latest checkpoint if there is one.

    Args:
      config: as `get_config` returns it.
      workdir: folder of the run, which may be gs://BUCKET/NAME; see `workdir.claim` for `fresh` and `resume`.
      stop_after: leave after this step, as if told to stop.
      quiet: print nothing.
      began: `time.perf_counter()` when the launch began, for the account of its time; now if not given.

    Returns:
      The results of the last evaluations, `{"NAME/metric": value}`; those of a finished run are read.

    Raises:
      UserError: something the user can mend; at a start that fails, nothing was written.
      Preempted: told to stop; the state is saved and the same call goes on.
    """
    goodput = Goodput(began)
    workdir, quiet = storage.path(workdir, "--workdir"), quiet or not is_main()
    with contextlib.ExitStack() as held:
        return _run(config, workdir, fresh, resume, stop_after, quiet, goodput, held)


def _run(
    config: ConfigDict,
    workdir: Path,
    fresh: bool,
    resume: bool,
    stop_after: int | None,
    quiet: bool,
    goodput: Goodput,
    held: contextlib.ExitStack,
) -> dict[str, float]:
    """See `run`; what `held` gets is let go when everything is written."""
    # Each block does what any process may fail at by itself. Up to the claim of the workdir nothing is written.
    with together("reading the config"):
        config = configs.normalised(config)
    _agree(config, fresh=fresh, resume=resume, stop_after=stop_after)
    saved = Saved(workdir)
    steps = saved.steps()
    statistics = None if fresh else saved_statistics(saved)
    with together("building the experiment"):
        own_modules.check_outside(workdir, config.to_dict())
        experiment = experiments.build(config, statistics=statistics)
        workdirs.check(workdir, config, fresh=fresh, resume=resume)
    if not (fresh or resume) and (finished := workdirs.results(workdir)):
        return _told(finished, workdir, quiet)
    with together("opening evaluations and data"):
        throughput = Throughput(experiment.data.batch_size, experiment.flops())
        evaluations = experiment.evaluations()
        feed = experiment.feed()
    _agree_on_data(experiment.source, workdir, fresh)
    with together("taking the workdir"):
        lock = held.enter_context(workdirs.writer(workdir)) if is_main() else None
    with together("looking at the workdir"):  # again: it may have changed while this one waited for the one before it
        workdirs.check(workdir, config, fresh=fresh, resume=resume)
    if not (fresh or resume) and (finished := workdirs.results(workdir)):
        return _told(finished, workdir, quiet)
    if any_process(saved.steps() != steps):
        saved = Saved(workdir)
    resuming = not fresh and saved.newest() is not None
    may_write = lock.check if lock is not None else lambda: None
    with launches.account(workdir, goodput, may_write) as account, contextlib.ExitStack() as stack:
        stack.enter_context(Watchdog(workdir, experiment.train.hang_timeout, jax.process_index()))
        progress = None
        with together("reading the weights to start from"):
            pretrained = None if resuming else experiment.load_pretrained()
        if resuming:
            with goodput.spent("restore"):
                start = _restored(saved, experiment, workdir)
                progress = carried(saved.meta(int(start.step)), experiment.metadata["config"])
        with together("claiming the workdir"):
            if is_main():
                workdirs.claim(workdir, config, fresh=fresh, resume=resume, lock=lock)
        checkpoints = stack.enter_context(Checkpoints(workdir, experiment.train.keep, saved.damaged))
        if not resuming:
            start = experiment.initial_state(pretrained)
        first = int(start.step)
        assert_equal_across_processes(first, "the step to go on from")
        journal = Journal(first, progress, feed.bad, workdir if is_main() else None)
        journal.recheck(experiment.bad_example)
        if is_main():
            workdirs.record_launch(workdir, config, first, pretrained.notes if pretrained else (), resume=resume)
            account.begin(first)
        lines = (progress or {}).get("lines")
        records = NoRecords() if lock is None else Records(workdir, first, lock.check, lines=lines)
        stack.enter_context(contextlib.closing(records))
        if not quiet:
            _print_header(experiment, workdir, first, pretrained.notes if pretrained else ())
            print_cautions([*experiment.cautions(), *(line for one in evaluations for line in one.cautions)])
        stack.enter_context(peers.explaining())  # before checkpoints are closed, which would wait for the dead
        began = time.perf_counter()
        stack.enter_context(_noting_skips(workdir))
        _, results = loop.Loop(
            start,
            experiment.runner(feed.fetch, finite.from_json((progress or {}).get("guard"))),
            feed,
            experiment.schedule,
            evaluations=evaluations,
            checkpoints=checkpoints,
            meta=experiment.metadata | {"versions": workdirs.versions()},
            records=records,
            reporter=Reporter(first, experiment.total, quiet, experiment.task.progress),
            throughput=throughput,
            extra=lambda updates: experiment.optimizer.rates(updates - 1),
            journal=journal,
            goodput=goodput,
            stop_after=stop_after,
        ).run()
        with goodput.spent("checkpoint"):
            checkpoints.wait()
    seconds = time.perf_counter() - began
    if lock is not None:
        lock.check()
        workdirs.write_json(
            workdir / "results.json", {"steps": experiment.total, "seconds": round(seconds, 1), "results": results}
        )
    if not quiet:
        _print_results(results, workdir, seconds)
        _print_times(account)
    return results


def _told(finished: dict, workdir: Path, quiet: bool) -> dict[str, float]:
    if not quiet:
        console().print(f"{workdir} is finished ({finished['steps']} steps).")
        _print_results(finished["results"], workdir)
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


def _agree(config: ConfigDict, **flags: bool | int | None) -> None:
    """UserError in every process where they were started with other configs, flags, code or devices."""
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
    """UserError in every process where they see other data, or another state of the run, before anything is written."""
    if jax.process_count() == 1:
        return
    with together("looking at the data"):
        facts = {
            "data": source and fingerprint(source),
            "workdir": {"steps": [] if fresh else Saved(workdir).steps(), "finished": bool(workdirs.results(workdir))},
        }
    agreement.check_equal(facts, "the data or the workdir that they see")


def _restored(saved: Saved, experiment: experiments.Experiment, workdir: Path) -> TrainState:
    """The state of the newest good checkpoint; UserError where it does not fit the config."""
    state = saved.restore(experiment.abstract_state())
    if int(state.step) > experiment.total:
        raise UserError(f"{workdir} holds step {int(state.step)}, beyond train.total ({experiment.total} steps)")
    return state


def _print_header(experiment: experiments.Experiment, workdir: Path, first: int, notes: tuple[str, ...]) -> None:
    count = sum(x.size for x in jax.tree.leaves(experiment.abstract_state().params))
    out = console()
    out.print(
        f"{experiment.config.model.name}: {count:,} parameters; {experiment.info.name} {experiment.info.split}: "
        f"{experiment.info.num_examples:,} examples; {experiment.total:,} steps of {experiment.data.batch_size} on "
        f"{jax.device_count()} {jax.devices()[0].device_kind} device(s)"
    )
    if first:
        out.print(f"going on from step {first} of {workdir}")
    for note in notes:
        out.print(note, markup=False)


def _print_results(results: dict[str, float], workdir: Path, seconds: float | None = None) -> None:
    table = Table("result", "value")
    for name, value in results.items():
        table.add_row(name, number(name, value))
    out = console()
    if results:
        out.print(table)
    took = f" in {duration(seconds)}" if seconds is not None else ""
    out.print(f"finished{took}: {workdir}/ (results.json, metrics.jsonl, tensorboard/, checkpoints/)")
