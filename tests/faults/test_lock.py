"""One writer a workdir; nothing of others is overwritten; what fails says so in one line; records are on the disk."""

import contextlib
import errno
import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxvision import cli, locks, outputs, processes, storage
from jaxvision import workdir as workdirs
from jaxvision.cli import failures
from jaxvision.commands import study, tables
from jaxvision.data import staging
from jaxvision.data.fingerprint import fingerprint
from jaxvision.data.sources import Info, Source
from jaxvision.errors import UserError
from jaxvision.evals.store import Features, Store
from jaxvision.launch import base
from jaxvision.parallel import agreement
from jaxvision.train import metrics

CONFIG = """
from ml_collections import ConfigDict

def get_config():
    c = ConfigDict()
    c.seed = 0
    sizes = dict(image_size=32, train=80, validation=24, test=8)
    c.data = dict(name="shapes", options=sizes, split="train", batch_size=16)
    c.augment = "flip_lr|normalize(0.5, 0.5)"
    c.model = dict(name="resnet", variant="8", width=0.25)
    c.task = dict(name="supervised")
    c.optimizer = dict(name="sgd", learning_rate=0.1, momentum=0.9)
    c.train = dict(total="60 steps", log_every="1 steps", checkpoint_every="5 steps", keep=2)
    c.evals = dict(val=dict(name="classify", split="validation"))
    return c
"""
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
def config():
    scope: dict = {}
    exec(CONFIG, scope)
    return scope["get_config"]()


@pytest.fixture
def shared_file_system(monkeypatch):
    """Locks of the kernel reach nobody, as on a network file system without them; times are short."""

    def flock(*_):
        raise OSError(errno.ENOTSUP, "not supported")

    monkeypatch.setattr(locks.fcntl, "flock", flock)
    monkeypatch.setattr(locks, "SETTLE_SECONDS", 0.01)
    monkeypatch.setattr(locks, "STALE_SECONDS", 1.0)
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.0)


def holder(folder, seconds=60.0):
    """A process that holds the lock of a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, folder, str(seconds)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    return process


# The lock.


def test_an_owner_is_named_and_a_killed_one_does_not_keep_the_lock(tmp_path):
    process = holder(tmp_path / "run")
    with pytest.raises(locks.Held) as refused, locks.Lock(tmp_path / "run", "the workdir", wait=0):
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
    process, said = holder(tmp_path / "run", 0.5), []
    with locks.Lock(tmp_path / "run", say=said.append):  # the folder goes with its first owner, and comes back
        assert process.wait(5) == 0
    (line,) = said
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
    with pytest.raises(locks.Held, match="process 12 of ada on node7"), locks.Lock(tmp_path, say=beat):
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
        with pytest.raises(locks.Held, match="taken over by process 12 of ada on node7"):
            write()
    lock.release()
    assert (tmp_path / "lock.json").read_text() == other
    assert [line["step"] for line in metrics.read(tmp_path / "metrics.jsonl")] == [1]


def test_a_lock_that_was_removed_is_renewed_and_a_folder_that_was_moved_is_left(tmp_path):
    with locks.Lock(tmp_path / "run") as lock:
        (tmp_path / "run" / "lock.json").unlink()
        lock.check()
        with pytest.raises(locks.Held), locks.Lock(tmp_path / "run", wait=0):
            pass
        (tmp_path / "run").rename(tmp_path / "away")
        (tmp_path / "run").mkdir()
        with pytest.raises(locks.Held, match="moved or removed"):
            lock.check()


def test_a_file_that_is_no_lock_is_not_overwritten(tmp_path):
    (tmp_path / "lock.json").write_text('{"dependencies": {}}')
    with pytest.raises(UserError, match="but is none: move it away"), locks.Lock(tmp_path):
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
        with pytest.raises(locks.Held), locks.Lock(run, wait=0):
            pass


def test_a_lock_in_a_bucket(bucket, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "STALE_SECONDS", 1.0)
    place, name = storage.path(f"gs://bucket/{tmp_path.name}"), f"{tmp_path.name}/lock.json"
    with locks.Lock(place) as lock:
        with pytest.raises(locks.Held, match=f"process {os.getpid()} of"), locks.Lock(place, wait=0):
            pass
        lock._store.beat()
        lock._look()
        lock.check()
        bucket.put(name, json.dumps(ELSEWHERE | {"beat": int(time.time())}).encode(), {})
        lock._look()
        with pytest.raises(locks.Held, match="taken over by process 12"):
            lock.check()
    assert "node7" in bucket.text(name)  # it was not the first one's to remove
    with locks.Lock(place, wait=0, say=lambda line: None):  # the other shows no sign of life
        assert json.loads(bucket.text(name))["pid"] == os.getpid()
    assert name not in bucket.names()


def test_of_two_that_take_over_in_a_bucket_one_is_refused(bucket, tmp_path):
    place = storage.path(f"gs://bucket/{tmp_path.name}")
    stores = [locks._Object(place / "lock.json", locks.Lock(place)._record) for _ in range(2)]
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
        with pytest.raises(locks.Held), workdirs.writer(run) as lock:
            workdirs.claim(run, config, lock=lock, **flags)
    assert {p.name: p.read_bytes() for p in run.iterdir()} == before
    process.kill()
    process.wait()


def test_a_run_that_is_held_is_no_failed_run_of_a_study(tmp_path, config, monkeypatch):
    def refused(*_, **__):
        raise locks.Held("another process writes there")

    monkeypatch.setattr(study.train, "run", refused)
    monkeypatch.setattr(study, "_started", lambda *_: True)
    with pytest.raises(UserError, match="a: another process"):
        study._Here(tmp_path, print)._train(study.Run("a", config, {}, may_fail=True))
    assert not list(tmp_path.rglob(study.FAILED))


# Files of others.


@pytest.mark.parametrize("name", ["metrics.jsonl", "tensorboard", "results.json", "checkpoints", "run.json"])
def test_files_that_no_run_wrote_are_not_overwritten(tmp_path, config, name):
    (tmp_path / "run").mkdir()
    place = tmp_path / "run" / name
    if "." in name:
        place.write_text("mine")
    else:
        place.mkdir()
        (place / "2026-notes.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(
        UserError, match=f"holds {name}, but neither config.json nor a checkpoint.*Give another --workdir"
    ):
        workdirs.claim(tmp_path / "run", config)
    assert sorted(tmp_path.rglob("*")) == before
    workdirs.claim(tmp_path / "run", config, fresh=True)
    assert (tmp_path / "run.1" / name).exists()


@pytest.mark.parametrize("name", ["tensorboard", "checkpoints", "lock.json"])
def test_what_is_no_folder_or_no_file_is_named(tmp_path, config, name):
    (tmp_path / name).mkdir() if name == "lock.json" else (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"{name} is a fil|{name} is a folder, where a run has its lock"):
        workdirs.check(tmp_path, config)


def test_other_files_do_not_hinder_a_run(tmp_path, config):
    for name in ("slurm-12.out", "notes.md", "launch", ".gitignore"):
        (tmp_path / name).write_text("")
    workdirs.claim(tmp_path, config)
    assert (tmp_path / "config.json").is_file()


@pytest.mark.parametrize("flags", [{}, {"resume": True}])
def test_a_config_of_something_else_is_not_overwritten(tmp_path, config, flags):
    (tmp_path / "config.json").write_text('{"model_type": "bert", "model": {}}')
    with pytest.raises(UserError, match="config.json is not the config of a run: it has no section 'data'"):
        workdirs.claim(tmp_path, config, **flags)
    assert "bert" in (tmp_path / "config.json").read_text()


def test_a_folder_of_pictures_keeps_what_was_there(tmp_path):
    (tmp_path / "index.html").write_text("mine")
    with pytest.raises(UserError, match="--out=.* holds index.html, which no earlier call"):
        outputs.claim(tmp_path, ["views.png", "index.html"], "--out")
    assert [p.name for p in tmp_path.iterdir()] == ["index.html"]
    outputs.claim(tmp_path / "new", ["index.html"], "--out")
    (tmp_path / "new" / "index.html").write_text("ours")
    outputs.claim(tmp_path / "new", ["index.html"], "--out")


def test_a_table_does_not_replace_a_record_of_a_run(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is a file of the run"):
        tables.check("table", tmp_path / "metrics.jsonl")
    tables.check("table", tmp_path / "mine.jsonl")


def test_a_folder_that_looks_unfinished_is_not_emptied(tmp_path):
    (tmp_path / "set.incomplete").mkdir()
    (tmp_path / "set.incomplete" / "thesis.tex").write_text("")
    with pytest.raises(UserError, match="holds other files"), staging.staged(tmp_path / "set", {}):
        pass
    assert (tmp_path / "set.incomplete" / "thesis.tex").exists()


def test_temporary_names_are_nobodys(tmp_path):
    names = {storage.temporary(tmp_path / "config.json") for _ in range(100)}
    assert len(names) == 100
    assert {(name.suffix, name.parent) for name in names} == {(".json", tmp_path)}


# Damaged files.

DAMAGES = {
    "empty": b"",
    "cut": b'{"steps": 1, "resu',
    "not UTF-8": b'{"steps": "\xff\xfe"}',
    "zeros": b"\0" * 300,
    "a list": b"[1, 2]",
    "null": b"null",
    "a number": b"7",
    "other keys": b'{"a": 1}',
    "other types": b'{"steps": "x", "launches": 3, "results": [], "data": 1, "code": null, "attempts": []}',
    "launches of another kind": b'{"launches": [1], "steps": true, "results": {}}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["config.json", "results.json", "run.json"])
def test_a_damaged_file_of_a_run_is_one_line(tmp_path, config, name, damage):
    workdirs.claim(tmp_path, config)
    (tmp_path / name).write_bytes(DAMAGES[damage])
    with pytest.raises(UserError, match=name) as refused:
        workdirs.check(tmp_path, config)
    assert len(str(refused.value)) < 600
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_a_job_is_one_line(tmp_path, damage):
    (tmp_path / "exit.json").write_bytes(DAMAGES[damage])
    with pytest.raises(UserError, match="exit.json"):
        base.status(tmp_path, alive=False)


def test_a_file_that_is_far_too_large_is_not_read(tmp_path, config):
    workdirs.claim(tmp_path, config)
    with (tmp_path / "results.json").open("wb") as file:
        file.truncate(10**12)  # takes no room
    with pytest.raises(UserError, match="results.json has 1,000,000,000,000 bytes"):
        workdirs.results(tmp_path)


def test_damaged_features_are_computed_anew(tmp_path, caplog):
    kept = Features(np.ones((2, 3), np.float32), np.array([0, 1], np.int32), np.array([0, 1]))
    Store({}, tmp_path).keep("v", {}, "features", kept)
    (file,) = tmp_path.glob("*.npz")
    file.write_bytes(file.read_bytes()[:90])
    assert Store({}, tmp_path).find("v", {}, "features") is None
    assert "are computed anew" in caplog.text


def test_torn_lines_are_left_out_and_those_in_the_middle_told(tmp_path, caplog):
    content = b'{"step": 1}\n{"step": 2, "lo\n\xff\0\n[3]\n{"step": "x"}\n{"step": 3}\n{"step": 4, "l'
    (tmp_path / "metrics.jsonl").write_bytes(content)
    assert metrics.parse(tmp_path / "metrics.jsonl") == ([{"step": 1}, {"step": 3}], [2, 3, 4, 5])
    metrics.Records(tmp_path, 3).close()
    assert "lines 2, 3, 4, 5 cannot be read" in caplog.text
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 3}\n'
    assert (tmp_path / "metrics.damaged.jsonl").read_bytes() == content + b"\n"
    metrics.Records(tmp_path, 3).close()
    assert caplog.text.count("cannot be read") == 1


# Records on the disk.


def events(board):
    """`{(name, step): value}` of a TensorBoard folder, file after file as TensorBoard reads them, and how often."""
    from tensorboardX.proto.event_pb2 import Event

    found, count = {}, 0
    for file in sorted(board.iterdir()):
        data, at = file.read_bytes(), 0
        while at < len(data):
            (size,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + size])
            at += size + 16
            for value in event.summary.value:
                found[value.tag, event.step] = value.simple_value
                count += 1
    return found, count


def test_the_events_are_those_of_the_metrics_after_any_number_of_kills(tmp_path):
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

    monkeypatch.setattr(storage.time, "monotonic", lambda: clock[0])
    lines = storage.Lines(tmp_path / "a")
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
    lines = storage.Lines(tmp_path / "metrics.jsonl")

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
    assert set(storage.read_lines(tmp_path / "metrics.jsonl")) == {"x" * 30}
    assert (tmp_path / "metrics.jsonl").read_bytes().endswith(b"x\n")


# Failures.


def wrapped(number, path):
    """As TensorStore and Orbax hand on what the system said."""
    text = f'UNKNOWN: Error writing "{path}" in kvstore: [OS error {number}: {os.strerror(number)}] [source locations]'
    try:
        try:
            raise ValueError(text)
        except ValueError as error:
            raise RuntimeError("saving failed") from error
    except RuntimeError as error:
        return error


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EMFILE])
def test_what_the_system_said_is_the_line(number):
    for error in (OSError(number, os.strerror(number), "/runs/a/state"), wrapped(number, "/runs/a/state")):
        line = failures.line(error)
        assert line.startswith(f"{os.strerror(number)}: /runs/a/state; ")
        assert "\n" not in line
        assert len(line) < 250


def test_a_file_that_nobody_names_is_sought_in_the_workdir():
    line = failures.line(OSError(errno.ENOSPC, "No space left on device"), "runs/a")
    assert line.startswith("No space left on device, probably in runs/a; free some space")


def raised(error, cause):
    """`error` as it is caught when it was raised while `cause` was handled."""
    try:
        try:
            raise cause
        except type(cause):
            raise error  # noqa: B904
    except type(error) as caught:
        return caught


def test_what_was_merely_handled_is_not_the_reason():
    absent, full = (OSError(number, os.strerror(number), "/a/b") for number in (errno.ENOENT, errno.ENOSPC))
    line = failures.line(raised(TypeError("too many\nwords"), absent))
    assert line.startswith("TypeError: too many words. This was not foreseen")
    assert len(failures.line(raised(TypeError("x" * 10_000), absent))) < 600
    assert failures.line(raised(TypeError("closing"), full)).startswith("No space left on device: /a/b")
    group = ExceptionGroup("several", [ValueError("a"), OSError(errno.ENOSPC, "No space left on device", "/b")])
    assert failures.line(group).startswith("No space left on device: /b")


@pytest.fixture
def failing(monkeypatch):
    """`failing(error)`: the command `predict` raises it."""

    def fail(error):
        def run(*_):
            raise error

        command = cli.COMMANDS["predict"]._replace(run=run)
        monkeypatch.setitem(cli.COMMANDS, "predict", command)

    return fail


def left(words, capsys):
    """Exit status and standard error of a command line."""
    with pytest.raises(SystemExit) as status:
        cli.main(["jaxvision", *words])
    return status.value.code, capsys.readouterr().err


def test_a_failure_is_one_line_and_its_traceback_lies_in_the_workdir(tmp_path, failing, capsys, monkeypatch):
    monkeypatch.setenv("JAX_PROCESS_ID", "3")
    monkeypatch.setattr(failures.tempfile, "gettempdir", lambda: str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    failing(ZeroDivisionError("a\nb"))
    words = ["predict", f"--workdir={tmp_path / 'run'}", "--images=x"]
    code, err = left(words, capsys)
    assert code == 1
    assert err.count("\n") == 1
    assert err.startswith("jaxvision: ZeroDivisionError: a b. This was not foreseen")
    (file,) = (tmp_path / "run" / "errors").iterdir()
    assert str(file) in err
    assert "-predict-rank" in file.name
    told = file.read_text()
    assert "Traceback (most recent call last)" in told
    assert "ZeroDivisionError" in told
    assert "jaxvision predict --workdir=" in told
    assert "jax " in told
    assert f"process   {os.getpid()}" in told

    (tmp_path / "run" / "config.json").unlink()  # no run of ours: nothing is written there
    _, err = left(words, capsys)
    (file,) = (tmp_path / "tmp").iterdir()
    assert str(file) in err
    assert len(list((tmp_path / "run" / "errors").iterdir())) == 1

    monkeypatch.setenv("JAXVISION_TRACEBACK", "1")
    assert "Traceback (most recent call last)" in left(words, capsys)[1]


def test_a_mistake_stays_the_reason_when_something_else_fails_because_of_it(failing, capsys):
    failing(raised(FileNotFoundError(errno.ENOENT, "No such file or directory", "/a/20"), UserError("it was moved")))
    code, err = left(["predict", "--workdir=x", "--images=x"], capsys)
    assert code == 2
    assert err.startswith("jaxvision: it was moved (and while it ended: No such file or directory: /a/20")


def test_an_interrupt_is_no_traceback(failing, capsys):
    failing(KeyboardInterrupt())
    assert left(["predict", "--workdir=x", "--images=x"], capsys) == (130, "jaxvision: interrupted\n")


# What processes of one job have in common.


def test_differences_are_told_by_name_with_both_values():
    there = {"config": {"optimizer": {"learning_rate": 0.1}}, "devices": {"count": 4}, "code": {"files": {"a.py": "1"}}}
    here = {"config": {"optimizer": {"learning_rate": 0.3}}, "devices": {"count": 4}, "code": {"files": {"b.py": "1"}}}
    assert agreement._differences(there, here) == [
        "config.optimizer.learning_rate: 0.1 -> 0.3",
        "code.files.a.py: '1' -> (absent)",
        "code.files.b.py: (absent) -> '1'",
    ]
    json.dumps([workdirs.code(), agreement.devices()])


class Listed(Source):
    """Bytes with names."""

    def __init__(self, images, names, classes=("a", "b")):
        self.info = Info("set", "train", len(images), classes, len(classes))
        self._images, self._names = images, names

    def __len__(self):
        return len(self._images)

    def __getitem__(self, index):
        if self._images[index] is None:
            raise OSError(errno.EIO, "bad")
        return {"image": self._images[index], "label": index % 2, "text": ("one", "two")}

    def describe(self, index):
        return self._names[index]


def test_the_fingerprint_of_a_set_follows_its_content_and_not_its_place():
    images, names = [b"%d" % i for i in range(20)], [f"/a/b/{i}.png" for i in range(20)]
    first = fingerprint(Listed(images, names))
    assert first == fingerprint(Listed(images, [name.replace("/a/", "/mnt/c/") for name in names]))
    changes = {
        "content": Listed([*images[:-1], b"x"], names),
        "names": Listed(images, ["/a/b/other.png", *names[1:]]),
        "examples": Listed(images[:-1], names[:-1]),
        "class_names": Listed(images, names, ("a", "c")),
    }
    for key, other in changes.items():
        assert fingerprint(other)[key] != first[key]
    assert fingerprint(Listed([None, *images[1:]], names))["content"] != first["content"]
    json.dumps(first)


# With real processes.


def training(file, workdir, *words, **variables):
    command = [sys.executable, "-c", "from jaxvision.cli import main; main()", "train", f"--config={file}"]
    return subprocess.Popen(
        [*command, f"--workdir={workdir}", *words],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def numbers(workdir):
    lines = metrics.read(workdir / "metrics.jsonl")
    return [{k: v for k, v in line.items() if k not in ("examples_per_second", "data_wait")} for line in lines]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A config file, and the run of it that nothing disturbed."""
    folder = tmp_path_factory.mktemp("unbroken")
    file = folder / "tiny.py"
    file.write_text(CONFIG)
    patch = pytest.MonkeyPatch()
    patch.setenv("JAXVISION_DATA", str(folder / "data"))
    process = training(file, folder / "run")
    assert process.wait(600) == 0, process.stderr.read()
    yield file, folder / "run"
    patch.undo()


@pytest.mark.slow
def test_two_trainings_at_once_are_one_writer(unbroken, tmp_path, record_property):
    file, _run = unbroken
    rounds, wrong, hung = 5, 0, 0
    for number in range(rounds):
        workdir, words = tmp_path / str(number), ["--config.train.total=200 steps"]
        both = [training(file, workdir, *words) for _ in range(2)]
        try:
            ended = [p.communicate(timeout=600) for p in both]
        except subprocess.TimeoutExpired:
            hung += 1
            continue
        finally:
            for process in both:
                process.kill()
        codes = sorted(p.returncode for p in both)
        refused = [err for p, (_, err) in zip(both, ended) if p.returncode == 2]
        # The second one waits; if the first ends before, it finds the run finished.
        told = all("cannot write to the workdir" in err and "kill" in err for err in refused)
        steps = [line["step"] for line in numbers(workdir) if "loss" in line]
        wrong += not (codes in ([0, 2], [0, 0]) and told and steps == list(range(1, 201)))
    record_property("promise", "a workdir has one writer")
    for name, value in {"injections": rounds, "lost": wrong, "hung": hung, "wrong": wrong}.items():
        record_property(name, value)
    assert (wrong, hung) == (0, 0)


@pytest.mark.slow
def test_a_killed_owner_does_not_keep_the_workdir(unbroken, tmp_path, record_property):
    file, run = unbroken
    kills, rng = 6, np.random.default_rng(0)
    for _ in range(kills):
        process = training(file, tmp_path / "run")
        until = time.monotonic() + 300
        before = len(numbers(tmp_path / "run"))
        while process.poll() is None and time.monotonic() < until and len(numbers(tmp_path / "run")) <= before:
            time.sleep(0.05)
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    last = training(file, tmp_path / "run")
    _, err = last.communicate(timeout=600)
    assert last.returncode == 0, err
    wrong = numbers(tmp_path / "run") != numbers(run)
    record_property("promise", "a dead owner does not keep the workdir")
    for name, value in {"injections": kills, "lost": 0, "hung": 0, "wrong": int(wrong)}.items():
        record_property(name, value)
    assert not wrong
    board = {key: value for key, value in events(tmp_path / "run" / "tensorboard")[0].items() if key[0] == "loss"}
    lines = {("loss", line["step"]): line["loss"] for line in numbers(run) if "loss" in line}
    assert board == pytest.approx(lines)


@pytest.mark.slow
def test_processes_that_see_other_data_write_nothing(tmp_path, record_property):
    """One picture of the second process is another."""
    from PIL import Image

    sizes = 'options=sizes, split="train"'
    text = CONFIG.replace('name="shapes"', 'name="folder", data_dir="set"').replace(sizes, 'split="train"')
    (tmp_path / "own.py").write_text(text.replace('split="validation"', 'split="train"'))
    for place, color in (("here", 0), ("there", 9)):
        for kind in range(4):
            folder = tmp_path / place / "set" / "train" / f"kind{kind}"
            folder.mkdir(parents=True)
            for i in range(4):
                Image.new("RGB", (32, 32), (color * (kind == i == 0), i, kind)).save(folder / f"{i}.png")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    job = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_NUM_CPU_DEVICES": "2"}
    words = ["train", f"--config={tmp_path / 'own.py'}", f"--workdir={tmp_path / 'run'}"]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", "from jaxvision.cli import main; main()", *words],
            env={**os.environ, **job, "JAX_PROCESS_ID": str(i)},
            cwd=tmp_path / place,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i, place in enumerate(("here", "there"))
    ]
    ended = [p.communicate(timeout=300)[1] for p in both]
    wrong = [p.returncode for p in both] != [2, 2] or (tmp_path / "run").exists()
    for err in ended:
        wrong |= "differ in the data or the workdir that they see" not in err
        wrong |= re.search(r"data.content: '\w{12}' -> '\w{12}'", err) is None or "data.names" in err
    record_property("promise", "processes that differ write nothing")
    for name, value in {"injections": 1, "lost": 0, "hung": 0, "wrong": int(wrong)}.items():
        record_property(name, value)
    assert not wrong, ended


@contextlib.contextmanager
def small_disk(folder, size):
    """A file system of that size; the test is skipped where none may be mounted."""
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if made.returncode:
        pytest.skip("a small file system cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_the_run_goes_on_when_there_is_room(unbroken, tmp_path, record_property):
    file, _run = unbroken
    disk, wrong = tmp_path / "disk", 0
    with small_disk(disk, "64m"):
        process = training(file, disk / "run", "--config.train.total=2000 steps")
        until = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < until and not (disk / "run/checkpoints/10").is_dir():
            time.sleep(0.02)
        with (disk / "filler").open("ab", buffering=0) as filler, contextlib.suppress(OSError):
            while True:
                filler.write(b"\0" * 2**16)
        _, err = process.communicate(timeout=300)
        lines = [line for line in err.splitlines() if "rendering" not in line]
        wrong += process.returncode != 1 or len(lines) != 1 or "No space left on device: " not in err
        wrong += not any(step.isdecimal() for step in os.listdir(disk / "run/checkpoints"))
        (disk / "filler").unlink()
        again = training(file, disk / "run", "--config.train.total=2000 steps")
        out, err2 = again.communicate(timeout=600)
        wrong += again.returncode != 0 or "going on from step" not in out
    record_property("promise", "a full disk is one line, and loses at most one interval")
    for name, value in {"injections": 1, "lost": 0, "hung": 0, "wrong": wrong}.items():
        record_property(name, value)
    assert not wrong, (err, err2)
