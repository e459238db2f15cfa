"""The names in the folder of checkpoints: which folders are steps, and which are something else and are left alone."""

import re
from typing import NamedTuple

from jaxvision import path_names, storage
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
      finished: Steps whose save was finished, ascending.
      unfinished: Steps whose folder has no mark of a finished save; in a bucket also those that are being written.
      temporary: Names of the folders of saves and deletions that are running or were killed.
      aside: Names of the checkpoints that were damaged and set aside.
      foreign: Names of everything else.
    """

    finished: tuple[int, ...] = ()
    unfinished: tuple[int, ...] = ()
    temporary: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()


def folder(workdir: Path) -> Path:
    """Returns the folder of the checkpoints of a run.

    Args:
      workdir: Folder of the run.
    """
    return storage.absolute(workdir) / "checkpoints"


def listing(folder: Path) -> Listing:
    """Lists a folder of checkpoints. It changes nothing.

    Args:
      folder: Folder of checkpoints; the listing is empty if there is none.
    """
    kinds: dict[str, list] = {kind: [] for kind in Listing._fields}
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return Listing()
    for entry in entries:
        name = entry.name
        is_folder = path_names.is_remote(entry) or (entry.is_dir() and not entry.is_symlink())
        if _STEP.fullmatch(name) and entry.is_dir():
            kind, name = "finished" if (entry / COMMITTED).exists() else "unfinished", int(name)
        elif _TEMPORARY.fullmatch(name) and is_folder:
            kind = "temporary"
        else:
            kind = "aside" if name.startswith(ASIDE) else "foreign"
        if entry.exists() or entry.is_symlink():  # else it was renamed or deleted meanwhile
            kinds[kind].append(name)
    return Listing(*(tuple(sorted(kinds[kind])) for kind in Listing._fields))


def strangers(listing: Listing) -> str:
    """Describes, in a line, what looks like a step but is none; empty if there is nothing of the kind.

    Args:
      listing: Names in a folder of checkpoints.

    >>> strangers(Listing(finished=(7,), foreign=("00045", "notes.txt")))
    "'00045' is no checkpoint (a step is the folder of a number without leading zeros): left alone"
    """
    names = [name for name in listing.foreign if name[:1].isdigit()]
    are = "is no checkpoint" if len(names) == 1 else "are no checkpoints"
    listed = ", ".join(map(shown, names))
    return f"{listed} {are} (a step is the folder of a number without leading zeros): left alone" if names else ""


def set_aside(folder: Path, step: int) -> str:
    """Renames the folder or file of a step to `damaged-STEP-N`, and returns the new name.

    Args:
      folder: Folder of checkpoints.
      step: Step whose name it has.
    """
    name = next(name for i in range(1, 10**6) if not (folder / (name := f"{ASIDE}{step}-{i}")).exists())
    storage.move(folder / str(step), folder / name)
    return name


def delete(folder: Path, step: int) -> None:
    """Deletes a step so that a reader sees all of it or nothing: first its name goes, or in a bucket its mark.

    Args:
      folder: Folder of checkpoints.
      step: Step to delete.
    """
    place = folder / str(step)
    if path_names.is_remote(place):
        (place / COMMITTED).unlink(missing_ok=True)
    else:
        place = folder / f"{step}{DELETING}"
        storage.remove(place)  # left by a deletion that was killed
        storage.move(folder / str(step), place)
    storage.remove(place)


def clean(folder: Path) -> None:
    """Deletes what killed saves and deletions of this run left. Only the owner of the workdir may call it.

    Args:
      folder: Folder of checkpoints.
    """
    names = listing(folder)
    for name in names.temporary:
        storage.remove(folder / name)
    # On a disk a save has a temporary name until its end.
    for step in names.unfinished if path_names.is_remote(folder) else ():
        if (folder / str(step) / "_CHECKPOINT_METADATA").exists():
            storage.remove(folder / str(step))
