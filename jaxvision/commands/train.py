"""`jaxvision train`: train a config in a workdir."""

import contextlib
import time

import jax
from ml_collections import ConfigDict
from rich.table import Table

from jaxvision import config as configs
from jaxvision import experiment as experiments
from jaxvision import storage
from jaxvision import workdir as workdirs
from jaxvision.commands.restore import saved_statistics
from jaxvision.errors import UserError
from jaxvision.parallel import peers
from jaxvision.parallel.distributed import assert_equal_across_processes, is_main, text_of_process_0, together
from jaxvision.storage import Path
from jaxvision.train import loop
from jaxvision.train.checkpoint import Checkpoints, saved_steps
from jaxvision.train.metrics import NoRecords, Records
from jaxvision.train.progress import Reporter, console, duration, number
from jaxvision.train.state import TrainState
from jaxvision.train.throughput import Throughput
from jaxvision.train.watch import to_its_end
from jaxvision.train.watchdog import Watchdog


@to_its_end
def run(
    config: ConfigDict,
    workdir: str | Path,
    *,
    fresh: bool = False,
    resume: bool = False,
    stop_after: int | None = None,
    quiet: bool = False,
) -> dict[str, float]:
    """Trains `config` in `workdir`, from its latest checkpoint if there is one.

    Args:
      config: as `get_config` returns it.
      workdir: folder of the run, which may be gs://BUCKET/NAME; see `workdir.claim` for `fresh` and `resume`.
      stop_after: leave after this step, as if told to stop.
      quiet: print nothing.

    Returns:
      The results of the last evaluations, `{"NAME/metric": value}`; those of a finished run are read.

    Raises:
      UserError: something the user can mend; at a start that fails, nothing was written.
      Preempted: told to stop; the state is saved and the same call goes on.
    """
    workdir = storage.path(workdir, "--workdir")
    quiet = quiet or not is_main()
    # Each block does what any process may fail at by itself. Up to the claim of the workdir nothing is written.
    with together("reading the config"):
        config = configs.normalised(config)
    _agree(config, fresh=fresh, resume=resume, stop_after=stop_after)
    with together("building the experiment"):
        experiment = experiments.build(config, statistics=None if fresh else saved_statistics(workdir))
        workdirs.check(workdir, config, fresh=fresh, resume=resume)
    finished = None if fresh or resume else workdirs.results(workdir)
    if finished:
        if not quiet:
            console().print(f"{workdir} is finished ({finished['steps']} steps).")
            _print_results(finished["results"], workdir)
        return finished["results"]

    resuming = not fresh and bool(saved_steps(workdir))
    with together("opening evaluations and data"):
        throughput = Throughput(experiment.data.batch_size, experiment.flops())
        evaluations = experiment.evaluations()
        feed = experiment.feed()
    with contextlib.ExitStack() as stack:
        stack.enter_context(Watchdog(workdir, experiment.train.hang_timeout, jax.process_index()))
        with together("reading the weights to start from"):
            pretrained = None if resuming else experiment.load_pretrained()
            if resuming:
                checkpoints = stack.enter_context(Checkpoints(workdir, experiment.train.keep))
                start = _restored(checkpoints, experiment, workdir)
        with together("claiming the workdir"):
            if is_main():
                workdirs.claim(workdir, config, fresh=fresh, resume=resume)
        if not resuming:
            checkpoints = stack.enter_context(Checkpoints(workdir, experiment.train.keep))
            start = experiment.initial_state(pretrained)
        first = int(start.step)
        assert_equal_across_processes(first, "the step to go on from")
        if is_main():
            workdirs.record_launch(workdir, config, first, pretrained.notes if pretrained else ())
        records = stack.enter_context(contextlib.closing(Records(workdir, first) if is_main() else NoRecords()))
        if not quiet:
            _print_header(experiment, workdir, first, pretrained.notes if pretrained else ())
            _print_cautions([*experiment.cautions(), *(line for one in evaluations for line in one.cautions)])
        stack.enter_context(peers.explaining())  # before checkpoints are closed, which would wait for the dead
        began = time.perf_counter()
        _, results = loop.train(
            start,
            experiment.runner(feed.fetch),
            feed,
            experiment.schedule,
            evaluations=evaluations,
            checkpoints=checkpoints,
            meta=experiment.metadata | {"versions": workdirs.versions()},
            records=records,
            reporter=Reporter(first, experiment.total, quiet),
            throughput=throughput,
            extra=lambda step: {"learning_rate": float(experiment.optimizer.learning_rate(step - 1))},
            stop_after=stop_after,
        )
    seconds = time.perf_counter() - began
    if is_main():
        workdirs.write_json(
            workdir / "results.json", {"steps": experiment.total, "seconds": round(seconds, 1), "results": results}
        )
    if not quiet:
        _print_results(results, workdir, seconds)
    return results


def _agree(config: ConfigDict, **flags: bool | int | None) -> None:
    """UserError in every process where they were started with different configs or flags, before anything else."""
    mine = configs.to_json(config)
    first = text_of_process_0(mine)
    differences = configs.differences(configs.from_json(first), configs.from_json(mine))
    with together("comparing the configs"):
        if differences:
            raise UserError(
                f"process {jax.process_index()} has another config than process 0. It differs in (there -> here):\n  "
                + "\n  ".join(differences)
            )
    assert_equal_across_processes(flags, "what the command line says")


def _restored(checkpoints: Checkpoints, experiment: experiments.Experiment, workdir: Path) -> TrainState:
    """The state of the latest checkpoint; UserError where it does not fit the config."""
    state = checkpoints.restore(experiment.abstract_state())
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


def _print_cautions(lines: list[str]) -> None:
    out = console()
    for line in dict.fromkeys(lines):  # several evaluations may read one split
        out.print(line, markup=False)


def _print_results(results: dict[str, float], workdir: Path, seconds: float | None = None) -> None:
    table = Table("result", "value")
    for name, value in results.items():
        table.add_row(name, number(name, value))
    out = console()
    if results:
        out.print(table)
    took = f" in {duration(seconds)}" if seconds is not None else ""
    out.print(f"finished{took}: {workdir}/ (results.json, metrics.jsonl, tensorboard/, checkpoints/)")
