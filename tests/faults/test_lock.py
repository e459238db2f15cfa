"""One writer a folder."""

import errno
import json
import os
import re
import socket
import subprocess
import sys
import time

import pytest

from jaxvision import lock_files, locks, processes, storage
from jaxvision import workdir as workdirs
from jaxvision.commands import study
from jaxvision.errors import UserError
from jaxvision.train import metrics

HOLD = """
import sys, time
from pathlib import Path
from jaxvision.locks import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""
ELSEWHERE = {
    "token": "t",
    "user": "ada",
    "host": "node7",
    "pid": 12,
    "started": "3",
    "machine": "m",
    "command": "train",
}


@pytest.fixture
def shared_file_system(monkeypatch):
    """Locks of the kernel reach nobody, as on a network file system without them; times are short."""

    def flock(*_):
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(lock_files.fcntl, "flock", flock)
    monkeypatch.setattr(locks, "SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(locks, "STALE_SECONDS", 1.0)
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.0)


def holder(folder, seconds=60.0):
    """A process that holds the lock of a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder, str(seconds)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


def test_an_owner_is_named_and_a_killed_one_does_not_keep_the_lock(tmp_path):
    process = holder(tmp_path / "run")
    with pytest.raises(locks.LockHeldError) as refused, locks.Lock(tmp_path / "run", "the workdir", wait=0):
        pass
    text = str(refused.value)
    assert f"process {process.pid} of " in text
    assert socket.gethostname() in text
    assert re.search(r"since \d{4}-\d\d-\d\dT.*last sign of life \d+ s ago", text)
    assert f"kill {process.pid}" in text
    assert f"remove {tmp_path / 'run' / 'lock.json'}" in text
    process.kill()
    process.wait()
    assert (tmp_path / "run" / "lock.json").exists()
    began = time.monotonic()
    with locks.Lock(tmp_path / "run"):
        assert json.loads((tmp_path / "run" / "lock.json").read_text())["pid"] == os.getpid()
    assert time.monotonic() - began < 1
    assert not (tmp_path / "run" / "lock.json").exists()


def test_an_owner_that_is_about_to_end_is_waited_for_with_a_line(tmp_path):
    process, lines = holder(tmp_path / "run", 0.5), []
    with locks.Lock(tmp_path / "run", say=lines.append):  # the folder goes with its first owner, and comes back
        assert process.wait(5) == 0
    (line,) = lines
    assert f"process {process.pid}" in line
    assert "waiting up to 20 s" in line


def test_a_process_of_the_same_number_is_another(tmp_path):
    mine = processes.describe()
    assert processes.is_alive(mine)
    assert not processes.is_alive(mine | {"started": "1"})
    assert processes.is_alive(mine | {"host": "elsewhere"}) is None
    assert processes.is_alive(mine | {"machine": "another boot"}) is None


def test_a_folder_that_was_made_for_the_lock_goes_again(tmp_path):
    with locks.Lock(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b" / "lock.json").exists()
    assert not list(tmp_path.iterdir())
    with locks.Lock(tmp_path / "a" / "b"):
        (tmp_path / "a" / "mine").write_text("")
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["mine"]


@pytest.mark.usefixtures("shared_file_system")
@pytest.mark.parametrize("age", [0, 10**6])
def test_a_lock_of_another_host_is_taken_when_it_shows_no_sign_of_life(tmp_path, age):
    record = ELSEWHERE | {"since": "2026-01-01T00:00:00+0000", "beat": int(time.time()) - age}
    (tmp_path / "lock.json").write_text(json.dumps(record))
    began = time.monotonic()
    with locks.Lock(tmp_path, say=lambda line: None) as lock:
        assert (time.monotonic() - began > 1) is (age == 0)  # its clock may be wrong by seconds, but not by days
        lock.check()


@pytest.mark.usefixtures("shared_file_system")
def test_a_lock_of_another_host_that_lives_is_left_alone(tmp_path):
    beats = iter(range(100))

    def beat(line=None):
        record = ELSEWHERE | {"since": "2026-01-01", "beat": int(time.time()) + next(beats)}
        (tmp_path / "lock.json").write_text(json.dumps(record))

    beat()
    with pytest.raises(locks.LockHeldError, match="process 12 of ada on node7"), locks.Lock(tmp_path, say=beat):
        pass
    assert json.loads((tmp_path / "lock.json").read_text())["host"] == "node7"


@pytest.mark.usefixtures("shared_file_system")
def test_the_owner_notices_that_another_took_over(tmp_path, config):
    lock = locks.Lock(tmp_path).__enter__()
    records = metrics.Records(tmp_path, 0, lock.check)
    records.write(1, {"loss": 1.0})
    other = json.dumps(ELSEWHERE | {"since": "2026-01-01", "beat": int(time.time())})
    (tmp_path / "lock.json").write_text(other)
    for write in (lambda: records.write(2, {"loss": 1.0}), records.flush):
        with pytest.raises(locks.LockHeldError, match="taken over by process 12 of ada on node7"):
            write()
    lock.release()
    assert (tmp_path / "lock.json").read_text() == other
    assert [line["step"] for line in metrics.read(tmp_path / "metrics.jsonl")] == [1]


def test_a_lock_that_was_removed_is_renewed_and_a_folder_that_was_moved_is_left(tmp_path):
    with locks.Lock(tmp_path / "run") as lock:
        (tmp_path / "run" / "lock.json").unlink()
        lock.check()
        with pytest.raises(locks.LockHeldError), locks.Lock(tmp_path / "run", wait=0):
            pass
        (tmp_path / "run").rename(tmp_path / "away")
        (tmp_path / "run").mkdir()
        with pytest.raises(locks.LockHeldError, match="moved or removed"):
            lock.check()


def test_a_file_that_is_no_lock_is_not_overwritten(tmp_path):
    (tmp_path / "lock.json").write_text('{"dependencies": {}}')
    with pytest.raises(UserError, match="but is not one: move it away"), locks.Lock(tmp_path):
        pass
    assert (tmp_path / "lock.json").read_text() == '{"dependencies": {}}'
    (tmp_path / "lock.json").write_text("\0" * 64)  # a loss of power leaves such
    with locks.Lock(tmp_path):
        pass


def test_fresh_moves_aside_only_what_it_holds(tmp_path):
    run = tmp_path / "run"
    with locks.Lock(run) as lock:
        (run / "a").write_text("")
        lock.rename(tmp_path / "run.1")
        lock.check()
        assert [p.name for p in (tmp_path / "run.1").iterdir()] == ["a"]
        with pytest.raises(locks.LockHeldError), locks.Lock(run, wait=0):
            pass


def test_a_lock_in_a_bucket(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "STALE_SECONDS", 1.0)
    place, name = storage.path(f"gs://bucket/{tmp_path.name}"), f"{tmp_path.name}/lock.json"
    with locks.Lock(place) as lock:
        with pytest.raises(locks.LockHeldError, match=f"process {os.getpid()} of"), locks.Lock(place, wait=0):
            pass
        lock._store.beat()
        lock._look()
        lock.check()
        bucket.put(name, json.dumps(ELSEWHERE | {"beat": int(time.time())}).encode(), {})
        lock._look()
        with pytest.raises(locks.LockHeldError, match="taken over by process 12"):
            lock.check()
    assert "node7" in bucket.text(name)  # it was not the first one's to remove
    with locks.Lock(place, wait=0, say=lambda line: None):  # the other shows no sign of life
        assert json.loads(bucket.text(name))["pid"] == os.getpid()
    assert name not in bucket.names()


def test_of_two_that_take_over_in_a_bucket_one_is_refused(bucket, tmp_path):
    place = storage.path(f"gs://bucket/{tmp_path.name}")
    stores = [lock_files.LockObject(place / "lock.json", locks.Lock(place)._record) for _ in range(2)]
    bucket.put(f"{tmp_path.name}/lock.json", json.dumps(ELSEWHERE | {"beat": 1}).encode(), {})
    seen = [store.take() for store in stores]
    assert stores[0].take(over=seen[0]) is None
    assert stores[1].take(over=seen[1]).record["pid"] == os.getpid()


def test_a_training_that_is_refused_changes_nothing(tmp_path, config, monkeypatch):
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.0)
    run = tmp_path / "run"
    run.mkdir()
    workdirs.write_json(run / "config.json", json.loads(json.dumps(config.to_dict())))
    process = holder(run)
    before = {p.name: p.read_bytes() for p in run.iterdir()}
    for flags in ({}, {"fresh": True}, {"resume": True}):
        with pytest.raises(locks.LockHeldError), workdirs.writer(run) as lock:
            workdirs.claim(run, config, lock=lock, **flags)
    assert {p.name: p.read_bytes() for p in run.iterdir()} == before
    process.kill()
    process.wait()


def test_a_run_that_is_held_is_no_failed_run_of_a_study(tmp_path, config, monkeypatch):
    def refused(*_, **__):
        raise locks.LockHeldError("another process writes there")

    monkeypatch.setattr(study.train, "run_train", refused)
    monkeypatch.setattr(study, "started", lambda *_: True)
    with pytest.raises(UserError, match="a: another process"):
        study._Here(tmp_path, print)._train(study.Run("a", config, {}, may_fail=True))
    assert not list(tmp_path.rglob(study.FAILED))
