"""Several runs: found by the words of a command line, named shortly, grouped by seed, and compared by their configs."""

import glob
import os
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from jaxvision import path_names, storage
from jaxvision import workdir as workdirs
from jaxvision.commands.run_records import Record, read_run
from jaxvision.errors import UserError, natural, shown
from jaxvision.storage import Path

SEED = "seed"  # last part of the keys in which repetitions of one experiment differ
ABSENT = "(absent)"  # stands for the value of a key that a config does not have
_OF_RUNS = ("run.json", "metrics.jsonl", "results.json", "checkpoints")  # one of these is beside the config of a run


class Group(NamedTuple):
    """Runs of one experiment that differ only in seeds, or a single run.

    Attributes:
      name: Name that stands for all of them.
      records: The runs.
    """

    name: str
    records: tuple[Record, ...]


def find(words: Sequence[str]) -> list[Path]:
    """Returns the workdirs that the words of a command line stand for, each once.

    Args:
      words: Workdirs, folders that hold workdirs at any depth (of a sweep or a study), or patterns such as "runs/vit*".

    Raises:
      UserError: A word stands for no run.
    """
    found: dict[str, Path] = {}
    for word in words:
        runs = list(_found(word))
        if not runs:
            raise UserError(f"{shown(word)} holds no run (no config.json): give a workdir, or a folder with workdirs")
        for workdir in runs:
            found.setdefault(os.path.realpath(workdir) if not path_names.is_remote(workdir) else str(workdir), workdir)
    return list(found.values())


def _found(word: str) -> Iterator[Path]:
    if not path_names.is_remote(word):
        local = path_names.expanded(word, "the path of a run")
        if not local.exists() and glob.has_magic(str(local)):
            for match in sorted(glob.glob(str(local), recursive=True), key=natural):
                if os.path.isdir(match):
                    yield from _walk(pathlib.Path(match))
            return
        if not local.exists():
            raise UserError(f"there is no {shown(word)}: give the workdir of a run, or a pattern in quotes")
        if not local.is_dir():
            raise UserError(f"{shown(word)} is a file: give the workdir of a run")
        if not workdirs.is_run(local):
            yield from _walk(local)
            return
    yield storage.path(word, "the path of a run")


def _walk(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """The workdirs in a folder, in natural order. A run holds no other runs."""
    if (folder / "config.json").is_file() and any((folder / name).exists() for name in _OF_RUNS):
        yield folder
        return
    with storage.reaching(folder, "read"):
        entries = [entry for entry in os.scandir(folder) if entry.is_dir(follow_symlinks=False)]
    for entry in sorted(entries, key=lambda entry: natural(entry.name)):
        yield from _walk(pathlib.Path(entry.path))


def read(workdirs_: Sequence[Path]) -> tuple[list[Record], dict[str, str]]:
    """Reads runs.

    Args:
      workdirs_: Workdirs, from `find`.

    Returns:
      The runs that can be read, and the reasons why others cannot, by workdir.

    Raises:
      UserError: None of them can be read.
    """
    records, unread = [], {}
    for name, workdir in zip(short_names(workdirs_), workdirs_):
        try:
            records.append(read_run(workdir, name))
        except UserError as error:
            if len(workdirs_) == 1:
                raise
            unread[str(workdir)] = str(error)
    if not records:
        raise UserError(f"none of the {len(workdirs_)} runs can be read; the first: {next(iter(unread.values()))}")
    return records, unread


def short_names(folders: Sequence[Path]) -> list[str]:
    """Returns names for workdirs: what their paths do not share, or for a single one the name of its folder.

    Args:
      folders: Workdirs, all different.

    >>> short_names([pathlib.Path("runs/a/0"), pathlib.Path("runs/b/0")]), short_names([pathlib.Path("runs/a")])
    (['a/0', 'b/0'], ['a'])
    """
    parts = [path_parts for folder in folders for path_parts in [storage.absolute(folder).parts]]
    shared = 0
    while len(parts) > 1 and len({part[: shared + 1] for part in parts}) == 1:
        shared += 1
    return ["/".join(part[shared:] if len(parts) > 1 else part[-1:]) or "." for part in parts]


def groups(records: Sequence[Record], by_seed: bool = True) -> list[Group]:
    """Groups the runs whose configs differ only in seeds: the values of keys that end in "seed".

    Of runs with equal configs, the first is in the group, and each other is alone. So is a run that was continued under
    another config: its config describes only its last part.

    Args:
      records: Runs.
      by_seed: False to leave every run alone.
    """
    together: dict[Any, list[Record]] = {}
    taken: dict[Any, int] = {}
    for number, record in enumerate(records):
        items = sorted((key, repr(value)) for key, value in record.config.items())
        rest = tuple(item for item in items if not is_seed(item[0]))
        seeds = tuple(item for item in items if is_seed(item[0]))
        # The same seed again is no independent repetition, and would make an interval too narrow.
        alone = not by_seed or record.reconfigured or taken.setdefault((rest, seeds), number) != number
        together.setdefault(number if alone else rest, []).append(record)
    grouped = [Group(_shared_name([one.name for one in group]), tuple(group)) for group in together.values()]
    names = [group.name for group in grouped]
    return [
        group._replace(name=_first_and_more([one.name for one in group.records]))
        if names.count(group.name) > 1
        else group
        for group in grouped
    ]


def is_seed(key: str) -> bool:
    """Returns whether a key of a config is a seed.

    Args:
      key: Dotted key.

    >>> is_seed("seed"), is_seed("data.subset.seed"), is_seed("data.split")
    (True, True, False)
    """
    return key.rpartition(".")[2] == SEED


def _shared_name(names: Sequence[str]) -> str:
    """One name for several: where their parts differ, what these share and a star."""
    split = [name.split("/") for name in names]
    if len(names) == 1 or len({len(parts) for parts in split}) > 1:
        return _first_and_more(names)
    return "/".join(column[0] if len(set(column)) == 1 else f"{_beginning(column)}*" for column in zip(*split))


def _first_and_more(names: Sequence[str]) -> str:
    """A name for several runs that no other group has."""
    return f"{names[0]} and {len(names) - 1} more" if len(names) > 1 else names[0]


def _beginning(words: Sequence[str]) -> str:
    """The letters with which all words begin, without a part of a number."""
    same = 0
    while all(len(word) > same for word in words) and len({word[same] for word in words}) == 1:
        same += 1
    return words[0][:same].rstrip("0123456789")


def differing_keys(records: Sequence[Record]) -> list[str]:
    """Returns the keys of the configs whose values are not the same in all runs, in the order of the configs.

    Args:
      records: Runs.
    """
    keys = dict.fromkeys(key for record in records for key in record.config)
    return [key for key in keys if len({repr(record.config.get(key, ABSENT)) for record in records}) > 1]
