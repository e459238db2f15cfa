"""Configs made from a user's images: for `jaxvision train --data=DIR`, and as files by `jaxvision new`."""

import pathlib
import shlex
import sys
from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from jaxvision import checks, recipes, scripts, storage
from jaxvision import config as configs
from jaxvision import experiment as experiments
from jaxvision import workdir as workdirs
from jaxvision.commands.shown import Made
from jaxvision.errors import UserError
from jaxvision.parallel.distributed import is_main
from jaxvision.reading import is_folder
from jaxvision.train.progress import console, print_cautions


def config_for_run(
    data: str, wishes: recipes.Wishes, changes: Mapping[str, Any], workdir: str, *, fresh: bool = False
) -> tuple[ConfigDict, Made]:
    """Makes the config of a run from images, checks them unless the run exists already, and prints what was chosen.

    Args:
      data: Folder, table or name of a set of images.
      wishes: Wishes of the user.
      changes: New values by dotted key.
      workdir: Folder of the run.
      fresh: True if a run in the folder will be moved aside.

    Returns:
      The config, and what the run keeps of it.

    Raises:
      UserError: The images cannot be read as a set with classes, too many are unreadable, or a wish does not fit.
    """
    path = storage.path(workdir, "--workdir")
    exists = not fresh and workdirs.is_run(path)
    recipe = _made(data, wishes, changes)
    lines = [] if exists else _survey(recipe)
    return recipe.config, Made(recipe.file(str(path / "config.py")), tuple(lines))


def stored_config(workdir: str, changes: Mapping[str, Any]) -> ConfigDict:
    """Returns the config of the run in a workdir, with changes.

    Args:
      workdir: Folder of the run.
      changes: New values by dotted key.

    Raises:
      UserError: The folder holds no run, or a change does not fit.
    """
    path = storage.path(workdir, "--workdir")
    if not workdirs.is_run(path):
        raise UserError(
            f"{path} holds no run to resume: give --config=FILE.py, or --data=FOLDER --model=NAME, to start one there"
        )
    return configs.normalised(configs.override(workdirs.saved_config(path), changes, _say))


def run_new(
    file: str, *, source: str | None, data: str | None, wishes: recipes.Wishes, changes: Mapping[str, Any]
) -> None:
    """Writes a config as a Python file that can be edited.

    Args:
      file: File to write.
      source: Config file, with its argument if it has one, or folder of a run; with `data`, None.
      data: Folder, table or name of a set of images, or None.
      wishes: Wishes of the user, for `data`.
      changes: New values by dotted key.

    Raises:
      UserError: The file exists, or is no Python file; neither a config nor images are given; a value does not fit; or
        `train` would refuse the images.
    """
    path = storage.local(file, "the new config")
    if path.suffix != ".py":
        raise UserError(f"{file} is to be a Python file: call it {path.with_suffix('.py')}")
    if path.exists():
        raise UserError(f"{file} exists: give another name, or move it away; nothing is overwritten")
    if data is not None:
        recipe = _made(data, wishes, changes)
        _survey(recipe)
        print_cautions(checks.check_run(experiments.build(recipe.config))[1])  # those of a run
        text = recipe.file(file)
    elif source is not None:
        text = _copied(source, changes, file)
    else:
        raise UserError("give --from=CONFIG.py or the folder of a run, or --data=FOLDER --model=NAME")
    storage.output_folder(path.parent, "the folder of the new config")
    storage.write(path, text)
    console().print(
        f"written to {path}: edit it, then jaxvision train --config={shlex.quote(file)} --workdir=...", markup=False
    )


def _made(data: str, wishes: recipes.Wishes, changes: Mapping[str, Any]) -> recipes.Recipe:
    recipe = recipes.make(data, wishes, changes)
    return recipe.changed(configs.normalised(configs.override(recipe.config, changes, _say)))


def _survey(recipe: recipes.Recipe) -> list[str]:
    """Checks the images of a config that was made; returns, and prints, what was found and chosen."""
    lines = [*recipe.lines, *recipes.check_images(recipe.config)]
    if is_main():
        for line in lines:
            console().print(line, markup=False)
    return lines


def _copied(source: str, changes: Mapping[str, Any], file: str) -> str:
    """Returns the file of a config that exists, in a file or in a run."""
    place = pathlib.Path(scripts.split(source)[0])
    if is_folder(place):
        config = workdirs.saved_config(storage.path(source, "--from"))
    else:
        config = configs.read(source)
    config = configs.normalised(configs.override(config, changes, _say))
    changed = "".join(f"\n           --config.{key}={value}" for key, value in changes.items())
    title = f"{config.model.get('name', 'A model')} on {config.data.get('name', 'a set')}: a copy of {source}."
    origin = f"{source}{', changed by' if changed else ''}{changed}"
    return recipes.python_file(config, recipes.docstring(title, file, origin))


def _say(line: str) -> None:
    print(line, file=sys.stderr)
