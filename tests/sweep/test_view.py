"""The time that a sweep still takes."""

import json
from types import SimpleNamespace

import pytest

from jaxvision.sweep import view


def run(folder, state, step=0, seconds=None, start=None):
    folder.mkdir()
    if seconds is not None:
        (folder / "results.json").write_text(json.dumps({"steps": 1000, "seconds": seconds, "results": {}}))
    if start is not None:
        (folder / "run.json").write_text(json.dumps({"launches": [{"start_step": 0}, {"start_step": start}]}))
    return SimpleNamespace(workdir=folder, state=state, ended=state == "complete", step=lambda: step)


def test_runs_that_were_resumed_and_runs_that_are_under_way_are_counted_by_their_steps(tmp_path):
    """A run takes 100 s. The complete one was resumed at step 900; one is at half, one waits, three are ahead."""
    runs = {
        0: run(tmp_path / "0", "complete", 1000, seconds=10.0, start=900),
        1: run(tmp_path / "1", "running", 500),
        2: run(tmp_path / "2", "waiting"),
    }
    sweep = SimpleNamespace(seeds=(0, 1, 2))
    one = SimpleNamespace(trials=[SimpleNamespace(runs=runs)], budget=2, sweep=sweep, steps=1000, parallel=2)
    assert view.seconds_left(one) == pytest.approx((50 + 100 + 300) / 2)


def test_nothing_is_told_before_a_run_is_complete(tmp_path):
    trial = SimpleNamespace(runs={0: run(tmp_path / "0", "running", 5)})
    sweep = SimpleNamespace(seeds=(0,))
    assert view.seconds_left(SimpleNamespace(trials=[trial], budget=2, sweep=sweep, steps=10, parallel=1)) is None
