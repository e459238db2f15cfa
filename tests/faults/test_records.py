"""What a run has written is on the disk."""

import os
import resource

import pytest

from jaxvision import line_files, storage
from jaxvision.train import metrics


def test_the_events_are_those_of_the_metrics_after_any_number_of_kills(tmp_path, events):
    for start, last in ((0, 5), (0, 7), (4, 9), (4, 6), (6, 10)):
        records = metrics.Records(tmp_path, start)  # never closed: it is killed
        for step in range(start + 1, last + 1):
            records.write(step, {"loss": step + start / 16, "val/top1@3": 0.5})
            if step % 2 == 0:
                records.flush()
    wanted = {}
    for line in metrics.read(tmp_path / "metrics.jsonl"):
        wanted |= {(name.replace("@", "_"), line["step"]): value for name, value in line.items() if name != "step"}
    assert events(tmp_path / "tensorboard") == (wanted, len(wanted))
    assert sorted(step for name, step in wanted if name == "loss") == list(range(1, 11))


def test_lines_reach_the_disk_before_append_returns_unless_they_come_too_fast(tmp_path, monkeypatch):
    synced, clock = [], [0.0]

    def fsync(handle):
        synced.append(os.fstat(handle).st_size)
        clock[0] += 0.002  # what it takes

    monkeypatch.setattr(line_files.time, "monotonic", lambda: clock[0])
    lines = line_files.Lines(tmp_path / "a")
    monkeypatch.setattr(storage.os, "fsync", fsync)
    for wait in (1.0, 1.0, 0.1, 0.01, 0.2):
        clock[0] += wait
        lines.append("x")
    assert synced == [2, 4, 10]  # 2 ms are a hundredth of 0.2 s
    lines.append("y")
    lines.sync()
    assert synced[-1] == 12


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    order, replace, fsync = [], os.replace, os.fsync
    monkeypatch.setattr(storage.os, "fsync", lambda handle: (order.append("sync"), fsync(handle)))
    monkeypatch.setattr(storage.os, "replace", lambda *names: (order.append("name"), replace(*names)))
    storage.write(tmp_path / "a.json", "{}")
    assert order == ["sync", "name", "sync"]


def test_a_full_disk_leaves_whole_lines_and_names_the_file(tmp_path):
    lines = line_files.Lines(tmp_path / "metrics.jsonl")

    def fill():
        for _ in range(1000):
            lines.append("x" * 30)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match="No space left|File too large") as full:
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert full.value.filename == str(tmp_path / "metrics.jsonl")
    assert set(line_files.read_lines(tmp_path / "metrics.jsonl")) == {"x" * 30}
    assert (tmp_path / "metrics.jsonl").read_bytes().endswith(b"x\n")
