"""The files of a source folder that travel to another machine, as a compressed archive."""

import os
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jaxvision.errors import UserError

LARGEST_MB = 100  # together, before compression; a source tree has a few
NAMED = 5  # of the largest files, in messages
# Where git does not say what belongs to the source.
LEFT_OUT = {".git", ".hg", ".venv", "venv", "__pycache__", ".pytest_cache", ".ruff_cache", "node_modules", "runs"}


def files_of(source: str | Path) -> list[str]:
    """The files of a source folder, relative to it, sorted.

    In a git checkout those that git tracks or would offer to add, in submodules too; what git ignores stays, and so do
    files that are tracked but no more there. Elsewhere all but those in folders of environments, caches and runs
    (`LEFT_OUT`), in hidden folders, and in folders that are workdirs.

    Raises:
      UserError: no such folder, or git cannot read it.
    """
    root = Path(source)
    if not root.is_dir():
        raise UserError(f"source={str(source)!r} is no folder")
    found = _of_git(root) if _is_checkout(root) else _of_folder(root)
    return sorted(name for name in set(found) if _is_file(root / name))


def check_size(source: str | Path, names: Sequence[str], largest_mb: float = LARGEST_MB) -> float:
    """The size of the files together, in MB.

    Raises:
      UserError: they are larger than `largest_mb`; the largest are named. Or there are none.
    """
    sizes = {name: os.lstat(Path(source, name)).st_size for name in names}
    total = sum(sizes.values()) / 1e6
    if not sizes:
        raise UserError(f"source={str(source)!r} has no files to copy")
    if total > largest_mb:
        largest = sorted(sizes, key=sizes.get, reverse=True)[:NAMED]
        told = "\n  ".join(f"{sizes[name] / 1e6:,.1f} MB  {name}" for name in largest)
        raise UserError(
            f"the {len(sizes):,} files of source={str(source)!r} have {total:,.1f} MB, more than {largest_mb:g} MB "
            f"that are copied to each host. The largest:\n  {told}\n"
            "Have git ignore what is no source (.gitignore), or set largest_mb."
        )
    return total


def pack(source: str | Path, archive: str | Path, largest_mb: float = LARGEST_MB) -> str:
    """Writes the files of a source folder as a `.tgz`, whole or not at all; links stay links.

    Returns:
      What was packed, in words.

    Raises:
      UserError: as `files_of` and `check_size`.
    """
    names = files_of(source)
    total = check_size(source, names, largest_mb)
    archive = Path(archive)
    archive.parent.mkdir(parents=True, exist_ok=True)
    handle, made = tempfile.mkstemp(prefix=".jaxvision-", dir=archive.parent)
    try:
        with os.fdopen(handle, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as tar:
            for name in names:
                tar.add(Path(source, name), arcname=name, recursive=False)
        os.replace(made, archive)
    finally:
        Path(made).unlink(missing_ok=True)
    size = archive.stat().st_size / 1e6
    return f"packed {len(names):,} files, {total:,.1f} MB ({size:,.1f} MB compressed), into {archive}"


def _is_file(path: Path) -> bool:
    return path.is_symlink() or path.is_file()


def _git(root: Path, *words: str) -> bytes:
    return subprocess.run(["git", "-C", root, *words], capture_output=True, check=True).stdout


def _is_checkout(root: Path) -> bool:
    """Whether git knows the folder: it is one of a checkout, and not ignored there."""
    if not any((folder / ".git").exists() for folder in (root.absolute(), *root.absolute().parents)):
        return False
    try:
        inside = _git(root, "rev-parse", "--is-inside-work-tree").strip() == b"true"
        ignored = subprocess.run(["git", "-C", root, "check-ignore", "--quiet", "."], capture_output=True).returncode
    except FileNotFoundError:
        raise UserError(f"{root} is a git checkout, but git, which knows its files, is not installed") from None
    except subprocess.CalledProcessError as error:  # such as a checkout of another owner
        raise UserError(f"git cannot read the checkout {root}: {os.fsdecode(error.stderr).strip()}") from None
    return inside and ignored != 0


def _of_git(root: Path) -> list[str]:
    names = _list(root, "--cached", "--others", "--exclude-standard")
    found = []
    for name in names:
        folder = root / name
        if folder.is_dir() and not folder.is_symlink():  # a submodule, or a checkout inside this one
            if (folder / ".git").exists():
                found += [f"{name.rstrip('/')}/{inner}" for inner in _of_git(folder)]
        else:
            found.append(name)
    return found


def _list(root: Path, *options: str) -> list[str]:
    try:
        return [os.fsdecode(name) for name in _git(root, "ls-files", "-z", *options).split(b"\0") if name]
    except subprocess.CalledProcessError as error:
        raise UserError(f"git cannot list the files of {root}: {os.fsdecode(error.stderr).strip()}") from None


def _of_folder(root: Path) -> list[str]:
    found = []
    for folder, folders, files in os.walk(root):
        if {"config.json", "run.json"} <= set(files) and Path(folder) != root:
            folders.clear()  # a workdir
            continue
        links = [name for name in folders if Path(folder, name).is_symlink()]
        kept = lambda name: name not in LEFT_OUT and not name.startswith(".") and not name.endswith(".egg-info")
        folders[:] = [name for name in folders if kept(name) and name not in links]
        found += [Path(folder, name).relative_to(root).as_posix() for name in (*files, *filter(kept, links))]
    return found


if __name__ == "__main__":
    import sys

    try:
        print(pack(sys.argv[1], sys.argv[2], float(sys.argv[3])))
    except UserError as error:
        sys.exit(f"jaxvision: {error}")
