"""Packs the files of a source folder into a compressed archive, to copy them to another machine."""

import os
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jaxvision.errors import UserError

LARGEST_MB = 100  # limit of all files together, before compression; a source tree has a few MB
NAMED = 5  # number of large files that a message names
# Folders that are not packed if git does not say what belongs to the source.
LEFT_OUT = {".git", ".hg", ".venv", "venv", "__pycache__", ".pytest_cache", ".ruff_cache", "node_modules", "runs"}


def files_of(source: str | Path) -> list[str]:
    """Returns the files of a source folder to pack, relative to it, sorted.

    In a git checkout these are the files that git tracks or would offer to add, also in submodules. Elsewhere they are
    all files except those in folders of environments, caches and runs (`LEFT_OUT`), hidden folders, and workdirs.

    Args:
      source: Source folder.

    Raises:
      UserError: There is no such folder, or git cannot read it.
    """
    root = Path(source)
    if not root.is_dir():
        raise UserError(f"source={str(source)!r} is not a folder: give a source folder")
    names = _of_git(root) if _is_checkout(root) else _of_folder(root)
    return sorted(name for name in set(names) if _is_file(root / name))


def check_size(source: str | Path, names: Sequence[str], largest_mb: float = LARGEST_MB) -> float:
    """Checks the size of files together.

    Args:
      source: Source folder.
      names: Files, relative to it.
      largest_mb: Limit of their size in MB.

    Returns:
      Their size in MB.

    Raises:
      UserError: They are larger (the message names the largest files), or there are none.
    """
    sizes = {name: os.lstat(Path(source, name)).st_size for name in names}
    total = sum(sizes.values()) / 1e6
    if not sizes:
        raise UserError(f"source={str(source)!r} has no files to copy")
    if total > largest_mb:
        largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:NAMED]
        lines = "\n  ".join(f"{sizes[name] / 1e6:,.1f} MB  {name}" for name in largest)
        raise UserError(
            f"the {len(sizes):,} files of source={str(source)!r} have {total:,.1f} MB, but at most {largest_mb:g} MB "
            f"are copied to each host. The largest files:\n  {lines}\n"
            "Add what is not source code to .gitignore, or raise largest_mb."
        )
    return total


def pack(source: str | Path, archive: str | Path, largest_mb: float = LARGEST_MB) -> str:
    """Writes the files of a source folder to a `.tgz`, completely or not at all; links stay links.

    Args:
      source: Source folder.
      archive: File to write.
      largest_mb: Limit of the files' size in MB, before compression.

    Returns:
      A line about what was packed.

    Raises:
      UserError: There is no such folder or no file in it, git cannot read it, or the files are too large.
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
    """Whether the folder belongs to a git checkout and is not ignored there."""
    if not any((folder / ".git").exists() for folder in (root.absolute(), *root.absolute().parents)):
        return False
    try:
        inside = _git(root, "rev-parse", "--is-inside-work-tree").strip() == b"true"
        ignored = subprocess.run(["git", "-C", root, "check-ignore", "--quiet", "."], capture_output=True).returncode
    except FileNotFoundError:
        raise UserError(f"{root} is a git checkout, but git is not installed: install it") from None
    except subprocess.CalledProcessError as error:  # such as a checkout of another owner
        raise UserError(f"git cannot read the checkout {root}: {os.fsdecode(error.stderr).strip()}") from None
    return inside and ignored != 0


def _of_git(root: Path) -> list[str]:
    files = []
    for name in _list(root, "--cached", "--others", "--exclude-standard"):
        folder = root / name
        if folder.is_dir() and not folder.is_symlink():  # a submodule, or a checkout inside this one
            if (folder / ".git").exists():
                files += [f"{name.rstrip('/')}/{inner}" for inner in _of_git(folder)]
        else:
            files.append(name)
    return files


def _list(root: Path, *options: str) -> list[str]:
    try:
        return [os.fsdecode(name) for name in _git(root, "ls-files", "-z", *options).split(b"\0") if name]
    except subprocess.CalledProcessError as error:
        raise UserError(f"git cannot list the files of {root}: {os.fsdecode(error.stderr).strip()}") from None


def _of_folder(root: Path) -> list[str]:
    names = []
    for folder, folders, files in os.walk(root):
        if {"config.json", "run.json"} <= set(files) and Path(folder) != root:
            folders.clear()  # a workdir
            continue
        links = [name for name in folders if Path(folder, name).is_symlink()]
        kept = lambda name: name not in LEFT_OUT and not name.startswith(".") and not name.endswith(".egg-info")
        folders[:] = [name for name in folders if kept(name) and name not in links]
        names += [Path(folder, name).relative_to(root).as_posix() for name in (*files, *filter(kept, links))]
    return names


if __name__ == "__main__":
    import sys

    try:
        print(pack(sys.argv[1], sys.argv[2], float(sys.argv[3])))
    except UserError as error:
        sys.exit(f"jaxvision: {error}")
