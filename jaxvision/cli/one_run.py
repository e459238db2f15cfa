"""Flags of the commands about one run."""

import os
import sys

from absl import flags

from jaxvision.cli.made_configs import check_train_flags, config_for_train, train_flags
from jaxvision.cli.shared import (
    Command,
    config_flag,
    config_of,
    need,
    offer,
    start,
    step_flag,
    table_flags,
    value_of,
    workdir_flag,
)
from jaxvision.errors import UserError

PAGE_VARIABLE = "JAXVISION_PAGE"  # 0: `train` writes no page unless --page is given


def _define_train(values: flags.FlagValues, words: list[str]) -> None:
    train_flags(values, words)
    workdir_flag(values)
    flags.DEFINE_bool(
        "fresh", False, "move the run in the workdir aside, if any, and start a new one", flag_values=values
    )
    flags.DEFINE_bool("resume", False, "resume the run in the workdir even if its config differs", flag_values=values)
    flags.DEFINE_integer(
        "stop_after", None, "step after which to save and stop, as after a signal", lower_bound=1, flag_values=values
    )
    wanted = os.environ.get(PAGE_VARIABLE, "1") != "0"
    flags.DEFINE_bool("page", wanted, "write page.html with the curves to the workdir at the end", flag_values=values)
    steps = "steps of which to record a trace: a number after the compilation, 5, or two steps, 10:15"
    flags.DEFINE_string("profile", None, steps, flag_values=values)


def _train(values: flags.FlagValues, rest: list[str]) -> None:
    check_train_flags(values)
    need(values, "workdir")
    start(rest, takes_config=True)
    config, made = config_for_train(values)
    from jaxvision.commands import train
    from jaxvision.train.goodput import process_began

    train.run_train(
        config,
        values.workdir,
        fresh=values.fresh,
        resume=values.resume,
        stop_after=values.stop_after,
        began=process_began(),
        profile=values.profile,
        made=made,
    )
    if values.page:
        from jaxvision.commands import plot  # here: drawing is imported after training only

        plot.write_at_end(values.workdir)


def _define_evaluate(values: flags.FlagValues, words: list[str]) -> None:
    config_flag(values, words, "config with other evaluations in its section evals (for weights, a section data, too)")
    workdir_flag(values, "folder of the run, or of converted weights")
    step_flag(values)
    flags.DEFINE_string("features", None, "folder that keeps features for later evaluations", flag_values=values)
    several = (
        "folders of several runs, DIR,DIR, in place of --workdir: evaluates each of them, and all as one classifier"
    )
    flags.DEFINE_list("ensemble", None, several, flag_values=values)
    flags.DEFINE_string("mean", "probabilities", "what the ensemble takes the mean of", flag_values=values)
    offer(values, "mean", "probabilities", "logits")
    table_flags(values, "the numbers")


def _evaluate(values: flags.FlagValues, rest: list[str]) -> None:
    if values.ensemble is None:
        need(values, "workdir")
    elif values.workdir is not None or values.features is not None:
        raise UserError("--ensemble names the runs: leave out --workdir and --features")
    config = config_of(values)
    if config is not None and not config.get("evals"):
        raise UserError("the file of --config has no section 'evals', which evaluate reads: add one")
    start(rest)
    from jaxvision.commands import ensemble, evaluate

    sections = {} if config is None else config.to_dict()
    if values.ensemble is not None:
        written = dict(form=value_of(values, "format"), out=values.out)
        ensemble.run_ensemble(values.ensemble, values.step, sections.get("evals"), mean=values.mean, **written)
        return
    evaluate.run_evaluate(
        values.workdir,
        values.step,
        sections.get("evals"),
        data=sections.get("data"),
        features=values.features,
        form=value_of(values, "format"),
        out=values.out,
    )


def _define_inspect(values: flags.FlagValues, words: list[str]) -> None:
    config_flag(values, words)
    flags.DEFINE_string("pages", None, "folder for pictures of classes, examples, augmentations", flag_values=values)
    flags.DEFINE_bool("compile", True, "compile the step to measure its memory", flag_values=values)
    text = "number of devices to plan for, which this CPU simulates; shows memory, time, what they send"
    flags.DEFINE_integer("devices", None, text, lower_bound=1, flag_values=values)
    flags.DEFINE_string(
        "device_kind", None, "kind of these devices: H100, A100, v5e, ... (default: several)", flag_values=values
    )


def _inspect(values: flags.FlagValues, rest: list[str]) -> None:
    need(values, "config")
    planned = values.devices is not None or values.device_kind is not None
    if values.device_kind is not None:
        from jaxvision import hardware

        hardware.find(values.device_kind)
    config = config_of(values)
    if planned:  # before anything touches a device
        from jaxvision.parallel import simulated

        simulated.simulate(values.devices or 1)
    start(rest, takes_config=True)
    from jaxvision.commands import inspect

    inspect.run_inspect(
        config,
        pages=values.pages,
        compile_step=values.compile,
        planned=planned,
        device_kind=values.device_kind,
    )


def _define_visualize(values: flags.FlagValues, words: list[str]) -> None:
    config_flag(values, words, "config with other images in its section data, which converted weights need")
    workdir_flag(values, "folder of the run, or of converted weights")
    step_flag(values)
    flags.DEFINE_string("out", None, "folder for the pictures and index.html", flag_values=values)
    flags.DEFINE_string("layer", "features", "output of the model, such as stages/2", flag_values=values)
    flags.DEFINE_string(
        "split", None, "split of the images (default: that of the first evaluation)", flag_values=values
    )
    flags.DEFINE_integer("examples", 2000, "number of images", lower_bound=2, flag_values=values)
    flags.DEFINE_float("perplexity", 30.0, "perplexity of t-SNE", flag_values=values)
    flags.DEFINE_integer("seed", 0, "seed of t-SNE and of the choice of images", lower_bound=0, flag_values=values)


def _visualize(values: flags.FlagValues, rest: list[str]) -> None:
    need(values, "workdir", "out")
    config = config_of(values)
    if config is not None and not config.get("data"):
        raise UserError("the file of --config has no section 'data', which visualize reads: add one")
    start(rest)
    from jaxvision.commands import visualize

    visualize.run_visualize(
        values.workdir,
        values.out,
        data=None if config is None else config.data.to_dict(),
        **{name: value_of(values, name) for name in ("step", "layer", "split", "examples", "perplexity", "seed")},
    )


def _define_verify(values: flags.FlagValues, words: list[str]) -> None:
    workdir_flag(values)
    flags.DEFINE_bool(
        "repair",
        False,
        "set damaged checkpoints aside, and restore a lost config.json or lost digests; no training may be running",
        flag_values=values,
    )


def _verify(values: flags.FlagValues, rest: list[str]) -> None:
    need(values, "workdir")
    start(rest)
    from jaxvision.commands import verify

    sys.exit(verify.run_verify(values.workdir, repair=values.repair))


COMMANDS = {
    "train": Command(
        "train a config in a workdir, or resume its training",
        "jaxvision train --config=configs/quickstart.py --workdir=runs/quickstart",
        _define_train,
        _train,
        examples=(
            "jaxvision train --config=configs/supervised/resnet_cifar10.py:20 --workdir=runs/resnet20",
            "jaxvision train --config=configs/quickstart.py --workdir=runs/b --config.optimizer.learning_rate=0.03",
            "jaxvision train --config=runs/quickstart/config.json --workdir=runs/again --config.seed=1",
            "jaxvision train --data=photos --model=resnet18 --workdir=runs/mine",
            "jaxvision train --workdir=runs/mine",
        ),
        groups={
            "What to train": "config workdir",
            "A config made from your images": "data model from size epochs batch",
            "If the workdir holds a run": "resume fresh",
        },
    ),
    "evaluate": Command(
        "run the evaluations of a workdir again, or others; or evaluate converted weights",
        "jaxvision evaluate --workdir=runs/quickstart",
        _define_evaluate,
        _evaluate,
        examples=(
            "jaxvision evaluate --workdir=runs/quickstart --step=1500 --format=csv",
            "jaxvision evaluate --workdir=runs/mine --config=configs/evaluation/representation.py:cifar10",
            "jaxvision evaluate --ensemble=runs/seed0,runs/seed1,runs/seed2 --step=best",
        ),
        groups={
            "What to evaluate": "workdir step config features",
            "Several runs as one classifier": "ensemble mean",
            "Output": "format out",
        },
    ),
    "inspect": Command(
        "show the parameters, cost, memory, lengths and shardings of a config without training",
        "jaxvision inspect --config=configs/supervised/vit_b16_imagenet2012.py",
        _define_inspect,
        _inspect,
        examples=(
            "jaxvision inspect --config=configs/quickstart.py --pages=runs/pages",
            "jaxvision inspect --config=configs/quickstart.py --config.model.name=vit --nocompile",
            "jaxvision inspect --config=configs/supervised/vit_b16_imagenet2012.py --devices=8 --device_kind=H100",
        ),
        groups={"What to show": "config pages compile", "Devices that are not here": "devices device_kind"},
    ),
    "verify": Command(
        "check the checkpoints, the config and the metrics of a workdir; repair them only with --repair",
        "jaxvision verify --workdir=runs/quickstart",
        _define_verify,
        _verify,
        examples=("jaxvision verify --workdir=runs/quickstart --repair",),
    ),
    "visualize": Command(
        "draw views, nearest neighbours, t-SNE and filters of a trained network",
        "jaxvision visualize --workdir=runs/quickstart --out=runs/quickstart/pictures",
        _define_visualize,
        _visualize,
        examples=(
            "jaxvision visualize --workdir=runs/quickstart --out=pictures --layer=stages/2 --examples=500",
            "jaxvision visualize --workdir=weights/vit_b16 --config=configs/quickstart.py --out=pictures",
        ),
        groups={
            "Model": "workdir step layer",
            "Images": "config split examples",
            "Pictures": "out perplexity seed",
        },
    ),
}
