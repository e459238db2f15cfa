"""What is printed of a profile, and that no failure of the profiler reaches the run."""

import gzip
import json
import logging
import tempfile
from pathlib import Path

import jax
import pytest

from jaxvision import storage
from jaxvision.analysis.traces import Operation, Trace
from jaxvision.commands import train
from jaxvision.commands.profile import lines_of, profiling
from jaxvision.parallel.gate import Preempted
from jaxvision.train.goodput import Goodput
from jaxvision.train.profiler import parse_steps


def write_trace(folder, **options):
    files = Path(folder) / "plugins" / "profile" / "now"
    files.mkdir(parents=True)
    event = {"ph": "X", "pid": 1, "ts": 0, "dur": 2e6, "args": {"hlo_op": "dot.1"}}
    (files / "vm.trace.json.gz").write_bytes(gzip.compress(json.dumps({"traceEvents": [event]}).encode()))


@pytest.fixture
def take_steps(monkeypatch, tmp_path):
    """`take_steps(start, stop, error, workdir)`: profiles two of four steps with these functions of the profiler."""

    def run(start=write_trace, stop=lambda: None, error=None, workdir=tmp_path):
        monkeypatch.setattr(jax.profiler, "start_trace", start)
        monkeypatch.setattr(jax.profiler, "stop_trace", stop)
        with profiling(parse_steps("1:3"), workdir, Goodput(), 4, quiet=False) as profiler:
            for step in range(4):
                profiler.before(step, 1, ())
                with profiler.annotated(step):
                    profiler.after(step + 1, ())
            if error:
                raise error

    return run


def no_trace(*args, **options):
    pass


def fail(*args, **options):
    raise RuntimeError("no profiler here")


def test_a_table_at_the_end_of_a_run(take_steps, capsys):
    take_steps()
    assert "100.0%   1000.000  matrix products  dot.1" in capsys.readouterr().out


def test_a_stopped_run_says_where_the_trace_is_without_the_table(take_steps, capsys, tmp_path):
    with pytest.raises(Preempted, match="SIGTERM"):
        take_steps(error=Preempted("SIGTERM"))
    assert capsys.readouterr().out.replace("\n", "") == f"trace: {tmp_path / 'profile'}"


def test_an_empty_trace_ends_no_run_and_stays_a_preemption(take_steps, caplog):
    with pytest.raises(Preempted, match="SIGTERM"):
        take_steps(no_trace, error=Preempted("SIGTERM"))
    take_steps(no_trace)
    assert "cannot be shown (FileNotFoundError: " in caplog.text


@pytest.mark.parametrize("functions", [{"start": fail}, {"stop": fail}])
def test_a_profiler_that_fails_is_one_warning(take_steps, caplog, capsys, functions):
    with caplog.at_level(logging.WARNING):
        take_steps(**functions)
    what = "started" if "start" in functions else "stored"
    said = f"the profile cannot be {what} (RuntimeError: no profiler here); training continues without it"
    assert caplog.messages == [said]
    assert capsys.readouterr().out == ""
    with pytest.raises(Preempted):
        take_steps(**functions, error=Preempted("SIGTERM"))


def test_a_finished_run_says_that_nothing_is_profiled(config, capsys, trained):
    assert train.run_train(config, trained[0], profile="2") == trained[1]
    out = capsys.readouterr().out
    assert "is finished (" in out
    assert "no profile: the run is finished, so this launch took no step. To profile its config, train it in " in out
    assert not (trained[0] / "profile").exists()


def test_a_run_whose_profiler_fails_is_finished(config, monkeypatch, tmp_path, trained):
    monkeypatch.setattr(jax.profiler, "start_trace", no_trace)
    monkeypatch.setattr(jax.profiler, "stop_trace", fail)
    assert train.run_train(config, tmp_path / "profiled", quiet=True, profile="2") == trained[1]


@pytest.mark.parametrize("functions", [{}, {"start": fail}, {"stop": fail}, {"error": Preempted("SIGTERM")}])
def test_nothing_of_a_run_in_a_bucket_stays_on_this_machine(take_steps, bucket, monkeypatch, tmp_path, functions):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    try:
        take_steps(**functions, workdir=storage.path(f"gs://bucket/{tmp_path.name}"))
    except Preempted:
        assert functions.get("error")
    assert not list(tmp_path.glob("jaxvision-profile-*"))


def test_the_time_of_a_step_is_that_of_one_device():
    trace = Trace({Operation("dot.1", ""): 0.08}, 0.01, devices=8)
    assert "100.0%      5.000  matrix products  dot.1" in lines_of(trace, 2)
