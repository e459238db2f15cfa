"""metrics.jsonl is the source of truth: complete, without doubles, readable after a crash."""

import json
import math

import pytest

from jaxvision.train.metrics import Records, read


def test_lines_beyond_the_checkpoint_are_dropped(tmp_path):
    records = Records(tmp_path, 0)
    for step in (1, 2, 3):
        records.write(step, {"loss": 1 / step})
    records.close()
    records = Records(tmp_path, 2)
    records.write(3, {"loss": 9.0})
    records.close()
    assert read(tmp_path / "metrics.jsonl") == [
        {"step": 1, "loss": 1.0},
        {"step": 2, "loss": 0.5},
        {"step": 3, "loss": 9.0},
    ]
    assert list((tmp_path / "tensorboard").glob("events*"))


def test_a_line_cut_off_by_a_crash_is_left_out(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read(path) == [{"step": 1, "loss": 2.0}]
    Records(tmp_path, 1).close()
    assert path.read_text() == '{"step": 1, "loss": 2.0}\n'


def test_numbers_that_are_none_are_null(tmp_path):
    records = Records(tmp_path, 0)
    records.write(1, {"loss": math.nan})
    records.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "loss": None}


def test_no_file_is_no_lines(tmp_path):
    assert read(tmp_path / "metrics.jsonl") == []


def test_lines_of_the_step_of_the_checkpoint_that_were_written_later_are_dropped(tmp_path):
    records = Records(tmp_path, 0)
    for name in ("loss", "a", "b"):
        records.write(5, {name: math.nan if name == "loss" else 1.0})
        assert records.mark(5) == ("loss", "a", "b").index(name) + 1
    assert records.mark(6) == 0
    records.close()
    records = Records(tmp_path, 5, lines=1)
    assert records.mark(5) == 1
    records.write(5, {"b": 2.0})
    assert records.mark(5) == 2
    records.close()
    assert read(tmp_path / "metrics.jsonl") == [{"step": 5, "loss": None}, {"step": 5, "b": 2.0}]
    reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reader.EventAccumulator(str(tmp_path / "tensorboard"), purge_orphaned_data=True).Reload()
    assert [(e.step, e.value) for e in events.Scalars("b")] == [(5, 2.0)]
    assert [e.step for e in events.Scalars("loss")] == [5]
