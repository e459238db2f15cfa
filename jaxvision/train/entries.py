"""What lies in the folder of checkpoints: which folders are steps, and which are none and are left alone."""

import re
from typing import NamedTuple

from jaxvision import storage
from jaxvision.errors import shown
from jaxvision.storage import Path

COMMITTED = "commit_success.txt"  # Orbax writes it last
TEMPORARY = ".orbax-checkpoint-tmp"
DELETING = ".deleting"
ASIDE = "damaged-"
_STEP = re.compile(r"0|[1-9][0-9]*", re.ASCII)
_TEMPORARY = re.compile(rf"(?:{_STEP.pattern})(?:{re.escape(TEMPORARY)}(?:-[0-9]+)?|{re.escape(DELETING)})", re.ASCII)


class Listing(NamedTuple):
    """The names in a folder of checkpoints.

    Attributes:
      finished: steps whose save was finished, ascending.
      unfinished: steps whose folder lacks the mark of that: in a bucket also what is being written.
      temporary: folders of saves and deletions that go on or were killed.
      aside: checkpoints that were found damaged and set aside.
      foreign: everything else.
    """

    finished: tuple[int, ...] = ()
    unfinished: tuple[int, ...] = ()
    temporary: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()


def folder(workdir: Path) -> Path:
    """Where the checkpoints of a run lie."""
    return storage.absolute(workdir) / "checkpoints"


def listing(folder: Path) -> Listing:
    """What lies in a folder of checkpoints; nothing where there is no such folder. Nothing is changed."""
    kinds: dict[str, list] = {kind: [] for kind in Listing._fields}
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return Listing()
    for entry in entries:
        name = entry.name
        is_folder = storage.is_remote(entry) or (entry.is_dir() and not entry.is_symlink())
        if _STEP.fullmatch(name) and entry.is_dir():
            kind, name = "finished" if (entry / COMMITTED).exists() else "unfinished", int(name)
        elif _TEMPORARY.fullmatch(name) and is_folder:
            kind = "temporary"
        else:
            kind = "aside" if name.startswith(ASIDE) else "foreign"
        if entry.exists() or entry.is_symlink():  # else it was renamed or deleted meanwhile, whatever it looked like
            kinds[kind].append(name)
    return Listing(*(tuple(sorted(kinds[kind])) for kind in Listing._fields))


def strangers(found: Listing) -> str:
    """A line on what could be taken for a step and is none; empty where there is nothing of the kind.

    >>> strangers(Listing(finished=(7,), foreign=("00045", "notes.txt")))
    "'00045' is no checkpoint (a step is the folder of a number without leading zeros): left alone"
    """
    names = [name for name in found.foreign if name[:1].isdigit()]
    are = "is no checkpoint" if len(names) == 1 else "are no checkpoints"
    listed = ", ".join(map(shown, names))
    return f"{listed} {are} (a step is the folder of a number without leading zeros): left alone" if names else ""


def set_aside(folder: Path, step: int) -> str:
    """Renames what has the name of a step; returns the new name, `damaged-STEP-N`."""
    name = next(name for i in range(1, 10**6) if not (folder / (name := f"{ASIDE}{step}-{i}")).exists())
    storage.move(folder / str(step), folder / name)
    return name


def delete(folder: Path, step: int) -> None:
    """Deletes a step so that a reader sees all of it or none: it loses its name, or in a bucket its mark, first."""
    place = folder / str(step)
    if storage.is_remote(place):
        (place / COMMITTED).unlink(missing_ok=True)
    else:
        place = folder / f"{step}{DELETING}"
        storage.remove(place)  # of a deletion that was killed
        storage.move(folder / str(step), place)
    storage.remove(place)


def clean(folder: Path) -> None:
    """Deletes what saves and deletions of this run that were killed left behind. Only for the one who writes here."""
    found = listing(folder)
    for name in found.temporary:
        storage.remove(folder / name)
    for step in (
        found.unfinished if storage.is_remote(folder) else ()
    ):  # elsewhere a save has another name until its end
        if (folder / str(step) / "_CHECKPOINT_METADATA").exists():
            storage.remove(folder / str(step))
