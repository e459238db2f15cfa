"""The command line, `jaxvision COMMAND --flags`. The only file with flags.

Nothing heavy is imported before the flags are parsed, so that `--help` answers at once.
"""

import logging
import sys
from collections.abc import Callable
from typing import NamedTuple

from absl import flags
from ml_collections import config_flags

from jaxvision.errors import UserError, unknown
from jaxvision.exits import EXIT_PREEMPTED, EXIT_USER_ERROR


class Command(NamedTuple):
    """One command: a line of help, an example, its flags, and what it does with them."""

    summary: str
    example: str
    define: Callable[[flags.FlagValues, list[str]], None]
    run: Callable[[flags.FlagValues, list[str]], None]


def main(argv: list[str] | None = None) -> None:
    """Entry point of the console script; exits with 0, 1, 2 (the user can mend it) or 85 (preempted)."""
    argv = list(sys.argv if argv is None else argv)
    name = argv[1] if len(argv) > 1 else "--help"
    if name in ("-h", "--help", "help"):
        print(_overview())
        return
    try:
        if name not in COMMANDS:
            raise unknown("command", name, COMMANDS)
        _run(name, argv[2:])
    except UserError as error:
        print(f"jaxvision: {error}", file=sys.stderr)
        sys.exit(EXIT_USER_ERROR)


def _run(name: str, words: list[str]) -> None:
    command = COMMANDS[name]
    values = flags.FlagValues()
    flags.DEFINE_bool("help", False, "show this help", short_name="h", flag_values=values)
    if {"--help", "-h", "--helpfull"} & set(words):
        command.define(values, [])
        print(_help(name, command, values))
        return
    command.define(values, words)
    _check_config(words)
    try:
        rest = values([name, *words])[1:]
    except flags.Error as error:
        raise UserError(f"{str(error).strip()} (see 'jaxvision {name} --help')") from None
    try:
        command.run(values, rest)
    except Exception as error:
        from jaxvision.train.watch import Preempted

        if not isinstance(error, Preempted):
            raise
        print(f"jaxvision: {error}; the same command goes on", file=sys.stderr)
        sys.exit(EXIT_PREEMPTED)


def _check_config(words: list[str]) -> None:
    """Raises UserError for a config file that cannot be loaded, or an override of a key that it does not have.

    config_flags says neither in one line. Values may stand as --key=value or --key value.
    """
    given = {}
    for word, following in zip(words, [*words[1:], ""]):
        key, equals, value = word.removeprefix("-").removeprefix("-").partition("=")
        if word.startswith("-") and key.partition(".")[0] == "config":
            given[key] = value if equals else following
    path = given.pop("config", None)
    if path:
        from jaxvision import config

        config.override(config.load(path), {key.removeprefix("config."): value for key, value in given.items()})


def _overview() -> str:
    lines = ["jaxvision COMMAND --flags (each has --help)", ""]
    lines += [f"  {name:10s} {command.summary}" for name, command in COMMANDS.items()]
    return "\n".join([*lines, "", "First run:", f"  {COMMANDS['train'].example}"])


def _help(name: str, command: Command, values: flags.FlagValues) -> str:
    lines = [f"jaxvision {name}: {command.summary}", "", "Example:", f"  {command.example}", "", "Flags:"]
    for flag in sorted({values[f].name for f in values}):
        default = values[flag].default
        lines.append(
            f"  --{flag}: {values[flag].help}" + (f" (default: {default})" if default not in (None, False) else "")
        )
    return "\n".join(lines)


def _config_flag(values: flags.FlagValues, words: list[str], what: str = "config file") -> None:
    config_flags.DEFINE_config_file(
        "config",
        None,
        f"{what}, FILE.py or FILE.py:ARG; --config.SECTION.KEY=VALUE changes a value",
        flag_values=values,
        sys_argv=["jaxvision", *words],
    )


def _workdir_flag(values: flags.FlagValues) -> None:
    flags.DEFINE_string("workdir", None, "folder of the run", flag_values=values)


def _step_flag(values: flags.FlagValues) -> None:
    flags.DEFINE_integer("step", None, "step of the checkpoint (the latest if not given)", flag_values=values)


def _need(values: flags.FlagValues, *names: str) -> None:
    for name in names:
        if values[name].value is None:
            raise UserError(f"--{name} is needed")


def _numbers(values: flags.FlagValues, name: str) -> tuple[float, ...] | None:
    try:
        return None if values[name].value is None else tuple(map(float, values[name].value))
    except ValueError:
        raise UserError(f"--{name} wants numbers with commas between, not {values[name].value}") from None


def _start(rest: list[str]) -> None:
    """What every command does once its flags are known: no stray words, logging, the processes of the job."""
    if rest:
        raise UserError(f"unexpected argument {rest[0]!r}; flags are written --name=value")
    _log_warnings()
    from jaxvision.parallel import distributed

    distributed.initialize()


def _log_warnings() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(message)s")
    logging.getLogger("absl").setLevel(logging.ERROR)


def _define_train(values: flags.FlagValues, words: list[str]) -> None:
    _config_flag(values, words)
    _workdir_flag(values)
    flags.DEFINE_bool("fresh", False, "move a run that lies in the workdir aside and start anew", flag_values=values)
    flags.DEFINE_bool("resume", False, "go on with a run even if its config differs", flag_values=values)
    flags.DEFINE_integer("stop_after", None, "stop after this step, as if told to by a signal", flag_values=values)


def _train(values: flags.FlagValues, rest: list[str]) -> None:
    _need(values, "config", "workdir")
    _start(rest)
    from jaxvision.commands import train

    train.run(values.config, values.workdir, fresh=values.fresh, resume=values.resume, stop_after=values.stop_after)


def _define_evaluate(values: flags.FlagValues, words: list[str]) -> None:
    _config_flag(values, words, "other evaluations: the section evals of a config file")
    _workdir_flag(values)
    _step_flag(values)


def _evaluate(values: flags.FlagValues, rest: list[str]) -> None:
    _need(values, "workdir")
    _start(rest)
    from jaxvision.commands import evaluate

    if values.config is not None and not values.config.get("evals"):
        raise UserError("the file of --config has no section 'evals'")
    evaluate.run(values.workdir, values.step, values.config and values.config.evals.to_dict())


def _define_inspect(values: flags.FlagValues, words: list[str]) -> None:
    _config_flag(values, words)
    flags.DEFINE_string("pages", None, "folder for pictures of classes, examples, augmentations", flag_values=values)
    flags.DEFINE_bool("compile", True, "compile the step to tell its memory", flag_values=values)


def _inspect(values: flags.FlagValues, rest: list[str]) -> None:
    _need(values, "config")
    _start(rest)
    from jaxvision.commands import inspect

    inspect.run(values.config, pages=values.pages, compile_step=values.compile)


def _define_predict(values: flags.FlagValues, words: list[str]) -> None:
    _workdir_flag(values)
    _step_flag(values)
    flags.DEFINE_string("images", None, "glob of image files, in quotes", flag_values=values)


def _predict(values: flags.FlagValues, rest: list[str]) -> None:
    _need(values, "workdir", "images")
    _start(rest)
    from jaxvision.commands import predict

    predict.run(values.workdir, values.images, values.step)


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
    if rest and rest[0] not in COMMANDS:
        raise unknown("command", rest[0], COMMANDS)
    from jaxvision.commands import launch

    launch.run(rest, *given.popitem(), name=values.name, dry_run=values.dry_run)


def _define_convert(values: flags.FlagValues, words: list[str]) -> None:
    text, pixels, ratio = flags.DEFINE_string, flags.DEFINE_integer, flags.DEFINE_float
    text("from", "jaxvision", "who wrote the weights: timm, torchvision, big_vision, bit, ...", flag_values=values)
    text("to", "jaxvision", "whose names to write; other than ours, OUT is a safetensors file", flag_values=values)
    text("model", None, "NAME:VARIANT of our model, as in vit:B/16", flag_values=values)
    flags.DEFINE_multi_string("option", [], "option of the model, as in pool=token; repeatable", flag_values=values)
    text("head", "keep", "keep, or drop the classifier", flag_values=values)
    flags.DEFINE_multi_string("ignore", [], "regular expression of names not to use; repeatable", flag_values=values)
    text("classes", None, "text file of class names, one a line", flag_values=values)
    pixels("size", None, "side of the images; positions are resized to it", flag_values=values)
    ratio("crop", None, "size divided by the shorter side before the central crop", flag_values=values)
    text("interpolation", None, "bilinear or bicubic", flag_values=values)
    text("normalize", None, "imagenet, inception, clip or bytes: mean and std", flag_values=values)
    flags.DEFINE_list("mean", None, "of each channel, for images in [0, 1]", flag_values=values)
    flags.DEFINE_list("std", None, "of each channel", flag_values=values)


def _convert(values: flags.FlagValues, rest: list[str]) -> None:
    if len(rest) < 2:
        raise UserError("convert what, and where to? jaxvision convert --from=timm --model=vit:B/16 IN OUT")
    _start(rest[2:])
    from jaxvision.commands import convert

    images = {name: values[name].value for name in ("size", "crop", "interpolation", "normalize")}
    images |= {name: _numbers(values, name) for name in ("mean", "std")}
    convert.run(
        *rest[:2],
        source=values["from"].value,
        target=values.to,
        model=values.model,
        options=values.option,
        head=values.head,
        ignore=tuple(values.ignore),
        classes=values.classes,
        **{name: value for name, value in images.items() if value is not None},
    )


def _study(values: flags.FlagValues, rest: list[str]) -> None:
    _need(values, "out")
    if not rest:
        raise UserError("which study? jaxvision study NAME --out=DIR")
    _start(rest[1:])
    from jaxvision.commands import study

    given = {name: values[name].value for name in ("preset", "data_dir", "launcher", "parallel", "dry_run")}
    study.run(rest[0], values.out, **given)


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
    _need(values, "sweep", *([] if values.dry_run else ["out"]))
    _start(rest)
    from jaxvision.commands import sweep

    sweep.run(
        values.sweep,
        values.out or "",
        launcher=values.launcher,
        parallel=values.parallel,
        size=values.size,
        dry_run=values.dry_run,
    )


def _define_data(values: flags.FlagValues, words: list[str]) -> None:
    flags.DEFINE_string("data_dir", None, "where the set lies, or is prepared", flag_values=values)
    flags.DEFINE_string("name", None, "cache: the set, as in a config", flag_values=values)
    flags.DEFINE_string("split", None, "cache: whole splits, as in train,validation", flag_values=values)
    flags.DEFINE_string("options", None, "cache: options of the set, as in {'image_size': 64}", flag_values=values)
    flags.DEFINE_string("host", None, "cache: host spec, as in decode|resize_short(256)", flag_values=values)
    flags.DEFINE_string("out", None, "cache: data_dir of the copy", flag_values=values)
    flags.DEFINE_string("format", None, "cache: jpeg, or png to lose nothing (default: jpeg)", flag_values=values)
    flags.DEFINE_integer("quality", None, "cache: of jpeg, 1 to 100 (default: 95)", flag_values=values)
    flags.DEFINE_float(
        "max_bad_fraction", None, "cache: unreadable images that are tolerated (default: 0.001)", flag_values=values
    )


def _data(values: flags.FlagValues, rest: list[str]) -> None:
    _log_warnings()
    from jaxvision.commands import data

    given = {name: values[name].value for name in values if values[name].present}
    data.run(rest, given)


COMMANDS = {
    "train": Command(
        "train a config in a workdir, or go on with it",
        "jaxvision train --config=configs/quickstart.py --workdir=runs/quickstart",
        _define_train,
        _train,
    ),
    "evaluate": Command(
        "run the evaluations of a workdir again, or those of another config",
        "jaxvision evaluate --workdir=runs/quickstart",
        _define_evaluate,
        _evaluate,
    ),
    "inspect": Command(
        "show parameters, cost, memory, lengths and shardings of a config without training",
        "jaxvision inspect --config=configs/supervised/vit_b16_imagenet2012.py",
        _define_inspect,
        _inspect,
    ),
    "predict": Command(
        "print the five most probable classes of image files",
        "jaxvision predict --workdir=runs/quickstart --images='photos/*.jpg'",
        _define_predict,
        _predict,
    ),
    "convert": Command(
        "convert weights of timm, torchvision, CLIP, big_vision, BiT, Keras to ours, or ours to theirs",
        "jaxvision convert --from=timm --model=vit:B/16 model.safetensors weights/vit_b16",
        _define_convert,
        _convert,
    ),
    "study": Command(
        "run a study of experiments/: all its runs, then its tables and figures",
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
    "data": Command(
        "prepare a data set, convert it from TFRecord, or cache it resized: data prepare | convert | cache",
        "jaxvision data convert ~/tensorflow_datasets/imagenet2012/5.1.0 /data/array_record",
        _define_data,
        _data,
    ),
}

if __name__ == "__main__":
    main()
