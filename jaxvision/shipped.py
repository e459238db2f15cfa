"""The configs and experiments of this project, found from any folder.

A checkout has them beside the package. An installed package has a copy of them inside itself, which setup.py puts into
the wheel. The user's own file of the same name, in the current folder, always comes first.
"""

from pathlib import Path, PurePath

FOLDERS = ("configs", "experiments")
COPY = "shipped"  # folder of the copy inside an installed package; setup.py has the same name


def root() -> Path | None:
    """Returns the folder that holds configs/ and experiments/ of this project, or None if they were not installed."""
    package = Path(__file__).parent
    if (package / COPY).is_dir():
        return package / COPY
    # Beside an installed package is everything that is installed, so a folder `configs` there may be anybody's.
    checkout = package.parent
    return checkout if (checkout / "setup.cfg").is_file() and (checkout / FOLDERS[0]).is_dir() else None


def is_shipped(path: str | Path) -> bool:
    """Returns whether a file or folder is one of this project's configs or experiments.

    Args:
      path: Path of the file or folder.
    """
    place = root()
    if place is None:
        return False
    return any(Path(path).absolute().is_relative_to(place / folder) for folder in FOLDERS)


def names_shipped(path: str | Path) -> bool:
    """Returns whether a path is written like one of this project's configs or experiments.

    Args:
      path: Path of a file or folder.

    >>> names_shipped("configs/quickstart.py"), names_shipped("/a/configs/quickstart.py"), names_shipped("configs")
    (True, False, True)
    """
    return PurePath(path).parts[:1] in {(folder,) for folder in FOLDERS} and ".." not in PurePath(path).parts


def find(path: str) -> str:
    """Returns the path of a file or folder, in the current folder or else among this project's own.

    Args:
      path: Path, such as "configs/quickstart.py" or "experiments/own_parts".

    Returns:
      The path unchanged if something is there, or if nothing is in either place.
    """
    if names_shipped(path) and not Path(path).exists():
        place = root()
        if place is not None and (place / path).exists():
            return str(place / path)
    return path


def places(folder: str) -> list[Path]:
    """Returns where a folder of this project is looked for: in the current folder, then among this project's own.

    Args:
      folder: One of `FOLDERS`.
    """
    own = root()
    return list(dict.fromkeys([Path.cwd() / folder, *([own / folder] if own else [])]))


def looked_in(path: str) -> str:
    """Describes where a path was looked for, for a message about a file that does not exist.

    Args:
      path: Path as the user gave it.
    """
    place = root()
    if not names_shipped(path) or place == Path.cwd():
        return f"looked in {Path.cwd()}"
    if place is None:
        advice = "the configs and experiments of jaxvision are in its repository: clone it, and run the command there"
        return f"looked in {Path.cwd()}; {advice}"
    return f"looked in {Path.cwd()} and in {place}"
