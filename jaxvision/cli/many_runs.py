"""Flags of the commands that start other runs."""

from absl import flags

from jaxvision.cli import one_run, photos
from jaxvision.cli.shared import Command, need, read_config, start, value_of
from jaxvision.errors import UserError, unknown


def _define_study(values: flags.FlagValues, words: list[str]) -> None:
    flags.DEFINE_string("preset", None, "preset of the study (default: its first)", flag_values=values)
    flags.DEFINE_string("out", None, "folder of the study: runs, tables, figures", flag_values=values)
    flags.DEFINE_string("data_dir", None, "folder of the data set, for presets that need one", flag_values=values)
    flags.DEFINE_string(
        "launcher",
        None,
        "launcher of the runs: local, slurm(partition='gpu'), ray; without it this process does them one by one",
        flag_values=values,
    )
    flags.DEFINE_integer("parallel", 2, "number of runs at once, under a launcher", flag_values=values)
    flags.DEFINE_bool("dry_run", False, "list the runs and what they cost; write nothing", flag_values=values)
    text = "folder with results.* and curves.* of an earlier call, or its results file: only make the report again"
    flags.DEFINE_string("from", None, text, flag_values=values)


def _study(values: flags.FlagValues, rest: list[str]) -> None:
    need(values, "out")
    if not rest:
        raise UserError("the name of the study is missing: jaxvision study NAME --out=DIR (or its folder or file)")
    start(rest[1:])
    from jaxvision.commands import study

    options = {name: value_of(values, name) for name in ("preset", "data_dir", "launcher", "parallel", "dry_run")}
    study.run_study(rest[0], values.out, source=value_of(values, "from"), **options)


def _define_sweep(values: flags.FlagValues, words: list[str]) -> None:
    flags.DEFINE_string("sweep", None, "sweep file, FILE.py or FILE.py:ARG", flag_values=values)
    flags.DEFINE_string("out", None, "folder of the sweep; the same command resumes it", flag_values=values)
    flags.DEFINE_string(
        "launcher",
        "local",
        "launcher of the runs: local, slurm(partition='gpu'), ray, or population, which trains many as one program. "
        "When this command is stopped, local runs save and end; runs on a cluster continue",
        flag_values=values,
    )
    flags.DEFINE_integer("parallel", 2, "number of runs at once", flag_values=values)
    flags.DEFINE_integer("size", 16, "number of trials at once in a population", flag_values=values)
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
    jobset = "options of the Kubernetes JobSet, as in image='team/jaxvision', nodes=4, gpus=8"
    text("jobset", None, jobset, flag_values=values)
    text("tpu", None, "options of the Cloud TPU, as in accelerator='v6e-16', zone='us-east5-a'", flag_values=values)
    text("name", None, "name of the job (default: last part of the workdir)", flag_values=values)
    flags.DEFINE_bool("dry_run", False, "print the script, manifest or commands; submit nothing", flag_values=values)


def _launch(values: flags.FlagValues, rest: list[str]) -> None:
    clusters = [cluster for cluster in ("slurm", "jobset", "tpu") if values[cluster].present]
    if len(clusters) != 1:
        raise UserError("launch needs one cluster: give one of --slurm, --jobset and --tpu")
    jobs = one_run.COMMANDS | photos.COMMANDS
    if rest and rest[0] not in jobs:
        raise unknown("command to launch", rest[0], jobs)
    from jaxvision.commands import launch

    # Read the config here, after launch's own options: the user learns of a mistake now, not when the job starts.
    check = lambda: read_config(list(rest[1:]))
    options = value_of(values, clusters[0])
    launch.run_launch(rest, clusters[0], options, name=values.name, dry_run=values.dry_run, check=check)


COMMANDS = {
    "study": Command(
        "run a study of experiments/, or of a path: all its runs, then its tables and figures",
        "jaxvision study data_scaling --preset=laptop --out=runs/data_scaling",
        _define_study,
        _study,
        examples=(
            "jaxvision list studies",
            "jaxvision study data_scaling --preset=laptop --out=runs/data_scaling --dry_run",
            "jaxvision study data_scaling --preset=paper --out=runs/paper",
            "jaxvision study experiments/own_parts/width --out=runs/width",
        ),
        groups={
            "What to run": "preset data_dir from out",
            "How to run it": "launcher parallel dry_run",
        },
    ),
    "sweep": Command(
        "search over configs: many runs, then a table, figures and the best config",
        "jaxvision sweep --sweep=configs/sweeps/quickstart.py --out=runs/sweep",
        _define_sweep,
        _sweep,
        examples=(
            "jaxvision sweep --sweep=configs/sweeps/quickstart.py --dry_run",
            "jaxvision sweep --sweep=configs/sweeps/quickstart.py --out=runs/sweep --launcher=population",
            "jaxvision sweep --sweep=configs/sweeps/grid.py --out=runs/grid --launcher=\"slurm(partition='gpu')\"",
        ),
        groups={"What to run": "sweep out", "How to run it": "launcher parallel size dry_run"},
    ),
    "launch": Command(
        "run a command on all nodes of a SLURM cluster, a Kubernetes JobSet or a Cloud TPU",
        "jaxvision launch --slurm='nodes=4, gpus=8' -- train --config=configs/supervised/vit_b16_imagenet2012.py "
        "--workdir=runs/vit",
        _define_launch,
        _launch,
        examples=(
            "jaxvision launch --slurm='nodes=2, gpus=8' --dry_run -- evaluate --workdir=runs/vit",
            "jaxvision launch --tpu=\"accelerator='v6e-16', zone='us-east5-a'\" -- train --config=FILE --workdir=gs://B/run",
        ),
        groups={"Where, one of": "slurm jobset tpu"},
    ),
}
