"""Flags for configs that are made from a user's images, and for runs whose config is in their workdir."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from absl import flags

from jaxvision.cli.shared import Command, changed_config, start, take_config, value_of
from jaxvision.errors import UserError
from jaxvision.literals import Written

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from jaxvision.commands.shown import Made
    from jaxvision.recipes import Wishes

_WISHES = ("model", "size", "epochs", "batch", "from")


class _ConfigFlag(flags.Flag):
    """--config, and the changes of single keys where the config itself is not known yet."""

    changes: Mapping[str, Written] = {}


def train_flags(values: flags.FlagValues, words: list[str]) -> None:
    """Defines --config, and --data with what goes with it.

    Args:
      values: Flags of the command.
      words: Words of the command line; --config and each --config.KEY are removed from them.

    Raises:
      UserError: The file of --config, a key or a value has a mistake.
    """
    text = "FILE.py or FILE.py:ARG, or the config.json of a run; --config.SECTION.KEY=VALUE changes a value"
    flag = _ConfigFlag(flags.ArgumentParser(), None, "config", None, f"config file, {text}")
    flags.DEFINE_flag(flag, values)
    path, flag.changes = take_config(words)
    if path is not None:
        flag.value = changed_config(path, flag.changes)
    _data_flags(values, "folder of weights to start from, converted or of a run")


def _data_flags(values: flags.FlagValues, weights: str) -> None:
    images = "folder of class folders, CSV or JSON lines: the config is made from the images, and kept in the workdir"
    flags.DEFINE_string("data", None, images, flag_values=values)
    model = "model, with --data: resnet18, resnet50, vit-s16, convnext-t, ..."
    flags.DEFINE_string("model", None, model, flag_values=values)
    flags.DEFINE_string("from", None, weights, flag_values=values)
    for name, what in (
        ("size", "side of the images in pixels"),
        ("epochs", "number of epochs"),
        ("batch", "images in a step"),
    ):
        flags.DEFINE_integer(name, None, f"{what}, with --data", lower_bound=1, flag_values=values)


def config_for_train(values: flags.FlagValues) -> "tuple[ConfigDict, Made | None]":
    """Returns the config of `train`: that of --config, one made from --data, or that of the run in the workdir.

    Args:
      values: Parsed flags of the command.

    Raises:
      UserError: Flags exclude each other; or the images, the workdir or a value has a mistake.
    """
    from jaxvision import config as configs
    from jaxvision.commands import new

    changes = _changes(values)
    if values.data is not None:
        return new.config_for_run(values.data, _wishes(values), changes, values.workdir, fresh=values.fresh)
    if values.config is not None:
        return configs.normalised(values.config), None
    return new.stored_config(values.workdir, changes), None


def check_train_flags(values: flags.FlagValues) -> None:
    """Checks that the flags of `train` fit together, before anything is imported.

    Args:
      values: Parsed flags of the command.

    Raises:
      UserError: They do not.
    """
    if values.data is not None and values.config is not None:
        raise UserError("--config and --data exclude each other: --data makes a config. Leave one of them out")
    wished = [name for name in _WISHES if value_of(values, name) is not None]
    if wished and values.data is None:
        keys = {
            "model": "model.name=... and --config.model.variant",
            "size": "data.host",
            "epochs": "train.total",
            "batch": "data.batch_size",
            "from": "init.weights",
        }
        raise UserError(f"--{wished[0]} goes with --data: without it, set --config.{keys[wished[0]]}=...")
    if values.config is None and values.data is None and values.workdir is None:
        raise UserError(
            "--config is missing: add --config=FILE.py, or --data=FOLDER --model=resnet18 to make a config from "
            "images, or only --workdir=FOLDER to resume the run in it"
        )


def _changes(values: flags.FlagValues) -> Mapping[str, Any]:
    flag = values["config"]
    return flag.changes if isinstance(flag, _ConfigFlag) else {}


def _wishes(values: flags.FlagValues) -> "Wishes":
    from jaxvision.recipes import Wishes

    return Wishes(values.model, values.size, values.epochs, values.batch, value_of(values, "from"))


def _define_new(values: flags.FlagValues, words: list[str]) -> None:
    values.set_gnu_getopt()  # flags may follow the name of the file
    path, changes = take_config(words)
    if path is not None:
        raise UserError(f"new copies a config with --from: write --from={path}")
    text = "not taken: --from names the config; --config.SECTION.KEY=VALUE changes a value in the new file"
    flag = _ConfigFlag(flags.ArgumentParser(), None, "config", None, text)
    flags.DEFINE_flag(flag, values)
    flag.changes = changes
    _data_flags(
        values, "config to copy, FILE.py or FILE.py:ARG or the folder of a run; with --data, weights to start from"
    )


def _new(values: flags.FlagValues, rest: list[str]) -> None:
    if not rest:
        raise UserError("the name of the new file is missing: jaxvision new CONFIG.py --from=configs/quickstart.py")
    source = value_of(values, "from")
    wished = [name for name in _WISHES if name != "from" and value_of(values, name) is not None]
    if wished and values.data is None:
        raise UserError(f"--{wished[0]} goes with --data, and a copy of a config takes --config.SECTION.KEY=VALUE")
    start(rest[1:])
    from jaxvision.commands import new

    new.run_new(
        rest[0],
        source=None if values.data is not None else source,
        data=values.data,
        wishes=_wishes(values),
        changes=_changes(values),
    )


COMMANDS = {
    "new": Command(
        "write a config file to edit: a copy of another one, that of a run, or one made from images",
        "jaxvision new my_config.py --from=configs/quickstart.py",
        _define_new,
        _new,
        examples=(
            "jaxvision new my_config.py --from=runs/quickstart --config.seed=1",
            "jaxvision new my_config.py --data=photos --model=convnext-t",
        ),
        groups={"What to copy": "from", "A config made from your images": "data model size epochs batch"},
    ),
}
