"""What no test of a stranger's things may do: start a program, or write outside its folder."""

import os
import re
import sys

import pytest

_PROGRAMS = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "pty.spawn",
)
_CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "shutil.rmtree", "os.truncate")
_OURS = re.compile(r"__pycache__|/\.hypothesis")  # what Python and the tests' own library keep
_watched: dict = {}
_hooked: list = []


class StrangerError(BaseException):
    """A stranger's thing has started a program or touched another file; no reader may take it for a damaged file."""


def _hook(event, args):
    if not _watched:
        return
    if event in _PROGRAMS and not (event == "subprocess.Popen" and args[0] == "ps"):  # `ps` is how a job is found
        raise StrangerError(f"{event} {args}")
    path = None
    if event == "open" and isinstance(args[0], str | bytes | os.PathLike):
        writes = args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if isinstance(args[2], int) else 0
        path = args[0] if writes else None
    elif event in _CHANGES:
        path = args[0]
    if path is None or isinstance(path, int):
        return
    where = os.path.realpath(os.fsdecode(path))
    if not where.startswith(_watched["scratch"]) and not _OURS.search(where) and where != "/dev/null":
        raise StrangerError(f"{event} {args}")


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """An empty folder that is the current one; outside it nothing is written, and no program is started."""
    if not _hooked:
        sys.addaudithook(_hook)
        _hooked.append(True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAXVISION_DATA", str(tmp_path / "cache"))
    _watched["scratch"] = str(tmp_path.resolve())
    yield tmp_path
    _watched.clear()
