"""Flags of the commands that start other runs."""

from absl import flags

from jaxvision.cli import one_run
from jaxvision.cli.shared import Command, need, read_config, start
from jaxvision.errors import UserError, unknown


def _define_study(values: flags.FlagValues, words: list[str]) -> None:
    flags.DEFINE_string("preset", None, "size of the study (its first preset if not given)", flag_values=values)
    flags.DEFINE_string("out", None, "folder of the study: runs, tables, figures", flag_values=values)
    flags.DEFINE_string("data_dir", None, "where the data set lies, for presets that need one", flag_values=values)
    flags.DEFINE_string(
        "launcher",
        None,
        "where runs go: local, slurm(partition='gpu'), ray; without it they are done in this process, in turn",
        flag_values=values,
    )
    flags.DEFINE_integer("parallel", 2, "runs at once, under a launcher", flag_values=values)
    flags.DEFINE_bool("dry_run", False, "list the runs and what they cost; write nothing", flag_values=values)


def _study(values: flags.FlagValues, rest: list[str]) -> None:
    need(values, "out")
    if not rest:
        raise UserError("which study? jaxvision study NAME --out=DIR, or the path of its folder or file")
    start(rest[1:])
    from jaxvision.commands import study

    given = {name: values[name].value for name in ("preset", "data_dir", "launcher", "parallel", "dry_run")}
    study.run_study(rest[0], values.out, **given)


def _define_sweep(values: flags.FlagValues, words: list[str]) -> None:
    flags.DEFINE_string("sweep", None, "sweep file, FILE.py or FILE.py:ARG", flag_values=values)
    flags.DEFINE_string("out", None, "folder of the sweep; the same command goes on in it", flag_values=values)
    flags.DEFINE_string(
        "launcher",
        "local",
        "where runs go: local, slurm(partition='gpu'), ray, or population, which trains many as one program. When this "
        "command is stopped, local runs save and end, and those of a cluster go on",
        flag_values=values,
    )
    flags.DEFINE_integer("parallel", 2, "runs at once", flag_values=values)
    flags.DEFINE_integer("size", 16, "of a population: trials at once", flag_values=values)
    flags.DEFINE_bool("dry_run", False, "list the runs and what they cost; write nothing", flag_values=values)


def _sweep(values: flags.FlagValues, rest: list[str]) -> None:
    need(values, "sweep", *([] if values.dry_run else ["out"]))
    start(rest)
    from jaxvision.commands import sweep

    sweep.run_sweep(
        values.sweep,
        values.out or "",
        launcher=values.launcher,
        parallel=values.parallel,
        size=values.size,
        dry_run=values.dry_run,
    )


def _define_launch(values: flags.FlagValues, words: list[str]) -> None:
    text = flags.DEFINE_string
    text("slurm", None, "options of the job, as in nodes=4, gpus=8, minutes=240, partition='gpu'", flag_values=values)
    text("jobset", None, "of the Kubernetes JobSet, as in image='team/jaxvision', nodes=4, gpus=8", flag_values=values)
    text("tpu", None, "of the Cloud TPU, as in accelerator='v6e-16', zone='us-east5-a'", flag_values=values)
    text("name", None, "of the job (the last part of the workdir if not given)", flag_values=values)
    flags.DEFINE_bool("dry_run", False, "print what would be submitted", flag_values=values)


def _launch(values: flags.FlagValues, rest: list[str]) -> None:
    given = {where: values[where].value for where in ("slurm", "jobset", "tpu") if values[where].present}
    if len(given) != 1:
        raise UserError("where to? One of --slurm, --jobset, --tpu is needed")
    if rest and rest[0] not in one_run.COMMANDS:
        raise unknown("command to launch", rest[0], one_run.COMMANDS)
    from jaxvision.commands import launch

    # A mistake in the config is found here, not when the job has waited, and after one in launch's own options.
    check = lambda: read_config(list(rest[1:]))
    launch.run_launch(rest, *given.popitem(), name=values.name, dry_run=values.dry_run, check=check)


COMMANDS = {
    "study": Command(
        "run a study, of experiments/ or named by its path: all its runs, then its tables and figures",
        "jaxvision study data_scaling --preset=laptop --out=runs/data_scaling",
        _define_study,
        _study,
    ),
    "sweep": Command(
        "search over configs: many runs, then a table, figures and the best config",
        "jaxvision sweep --sweep=configs/sweeps/quickstart.py --out=runs/sweep",
        _define_sweep,
        _sweep,
    ),
    "launch": Command(
        "run a command on all nodes of a SLURM cluster, a Kubernetes JobSet or a Cloud TPU",
        "jaxvision launch --slurm='nodes=4, gpus=8' -- train --config=configs/supervised/vit_b16_imagenet2012.py "
        "--workdir=runs/vit",
        _define_launch,
        _launch,
    ),
}
