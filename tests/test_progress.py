"""What is shown of work that takes long, on a terminal and on a pipe."""

import io
import time

import pytest
from rich.console import Console

from jaxvision import progress


@pytest.fixture
def at_once(monkeypatch):
    """Progress is shown from the beginning and every time."""
    monkeypatch.setattr(progress, "FIRST", 0)
    monkeypatch.setattr(progress, "BETWEEN", 0)
    monkeypatch.setattr(progress, "REFRESH", 0.01)


@pytest.fixture
def terminal(monkeypatch):
    """A terminal in place of standard error."""
    screen = io.StringIO()
    out = Console(file=screen, force_terminal=True, color_system=None, highlight=False, width=100)
    monkeypatch.setattr(progress, "_console", lambda: out)
    return screen


def test_quick_work_is_silent(capsys):
    assert list(progress.track(range(1000), "counting")) == list(range(1000))
    assert progress.waiting("adding", sum, [1, 2]) == 3
    assert capsys.readouterr() == ("", "")


def test_lines_on_a_pipe(at_once, capsys):
    list(progress.track([1, 2], "reading a set", unit="files"))
    out, err = capsys.readouterr()
    assert out == ""
    first, second, last = err.splitlines()
    assert first.startswith("reading a set: 1 of 2 files, ")
    assert first.endswith(" left")
    assert second.startswith("reading a set: 2 of 2 files, ")
    assert last == "reading a set: 2 files in 0s"


def test_lines_come_after_a_while_and_seldom(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.Progress("rendering", 100, "images") as shown:
        for _ in range(100):
            now[0] += 0.3
            shown.advance()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4  # after 5, 15 and 25 seconds, and at the end
    assert lines[0] == "rendering: 17 of 100 images, 3 a second, 25s left"
    assert lines[-1] == "rendering: 100 images in 30s"


def test_slow_things_and_an_unknown_number(at_once, monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.Progress("building", unit="models") as shown:
        now[0] += 4
        shown.advance(2)
    assert capsys.readouterr().err.splitlines()[0] == "building: 2 models, 2.0 s each"


def test_waiting_says_that_it_goes_on(at_once, capsys):
    assert progress.waiting("drawing a map", lambda: time.sleep(0.1) or 7) == 7
    assert "drawing a map: 0s so far\n" in capsys.readouterr().err


def test_nothing_is_called_finished_that_failed(at_once, capsys):
    with pytest.raises(ZeroDivisionError):
        [1 / x for x in progress.track([1, 0], "dividing")]
    assert "dividing: 1 of 2" in (err := capsys.readouterr().err)
    assert "examples in" not in err


def test_a_bar_on_a_terminal(at_once, terminal, monkeypatch):
    monkeypatch.setattr(progress, "REFRESH", 0)
    list(progress.track([1, 2], "reading [a set]", unit="files"))
    assert "reading [a set]" in terminal.getvalue()
    assert "2/2 files" in terminal.getvalue()
    assert terminal.getvalue().endswith("reading [a set]: 2 files in 0s\n")
    assert progress._shown == []


def test_one_bar_at_a_time(at_once, terminal):
    owner = object()
    progress.occupy(owner)
    try:
        list(progress.track([1, 2], "inner"))
        assert terminal.getvalue() == ""
    finally:
        progress.release(owner)
