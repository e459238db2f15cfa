"""What may happen to checkpoints: every damage is found and named, a good step is used, and readers change nothing.

The quick ones are of a checkpoint of a few arrays; those marked slow are of a real run, every file of it.
"""

import errno
import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision import storage
from jaxvision import workdir as workdirs
from jaxvision.commands import verify
from jaxvision.errors import UserError
from jaxvision.train import digests, entries
from jaxvision.train.checkpoint import Checkpoints, Saved
from jaxvision.train.state import TrainState
from jaxvision.train.watch import Preempted

CONFIG = dict(seed=0, data=dict(batch_size=4), train=dict(total="9 steps", log_every="3 steps"), evals=None)
CONFIG |= dict(model=dict(name="vit"), task=dict(name="supervised"), optimizer=dict(name="sgd"))
META = {"config": CONFIG, "data": {"examples": 100}, "statistics": {"mean": np.arange(3.0)}}


def state_at(step):
    """A state whose arrays follow from its step."""
    w = jnp.arange(600, dtype=jnp.float32).reshape(20, 30) * step
    return TrainState(jnp.int32(step), {"w": w, "b": jnp.float32(step)}, {}, (w + 1,), None)


def target():
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), state_at(0))


def assert_is(state, step):
    jax.tree.map(np.testing.assert_array_equal, state, state_at(step))


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def files_of(place):
    return sorted(p for p in place.rglob("*") if p.is_file())


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A workdir with the steps 3 and 6."""
    workdir = tmp_path_factory.mktemp("faults") / "run"
    with Checkpoints(workdir) as checkpoints:
        for step in (3, 6):
            checkpoints.save(state_at(step), META)
    workdirs.write_json(workdir / "config.json", CONFIG)
    launch = {"start_step": 0, "config_fingerprint": configs.fingerprint(ConfigDict(CONFIG))}
    workdirs.write_json(workdir / "run.json", {"launches": [launch]})
    (workdir / "metrics.jsonl").write_text('{"step": 3, "loss": 1.5}\n{"step": 6, "loss": 1.0}\n')
    return workdir


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


def largest(place):
    return max(files_of(place / "state"), key=lambda p: p.stat().st_size)


def flip(path, bit):
    content = bytearray(path.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)


def empty(place):
    shutil.rmtree(place)
    place.mkdir()


DAMAGES = {
    "flipped bit": lambda place: flip(largest(place), 777),
    "truncated": lambda place: os.truncate(largest(place), 100),
    "zeroed": lambda place: largest(place).write_bytes(bytes(largest(place).stat().st_size)),
    "missing": lambda place: largest(place).unlink(),
    "surplus": lambda place: (place / "state" / "d" / "more").write_text("x"),
    "meta is no JSON": lambda place: (place / "meta" / "metadata").write_text("{"),
    "meta is empty": lambda place: (place / "meta" / "metadata").write_text(""),
    "structure is broken": lambda place: flip(place / "state" / "_METADATA", 99),
    "an item is missing": lambda place: shutil.rmtree(place / "meta"),
    "state is missing": lambda place: shutil.rmtree(place / "state"),
    "digests are broken": lambda place: flip(place / digests.NAME, 99),
    "digests are empty": lambda place: (place / digests.NAME).write_text(""),
    "mark is missing": lambda place: (place / entries.COMMITTED).unlink(),
    "folder is empty": empty,
    "another step": lambda place: (shutil.rmtree(place), shutil.copytree(place.parent / "3", place)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_newest_step_is_named_and_the_one_before_is_used(run, caplog, damage):
    place = run / "checkpoints" / "6"
    DAMAGES[damage](place)
    before = contents(run)
    saved = Saved(run)
    assert_is(saved.restore(target()), 3)
    np.testing.assert_array_equal(saved.meta()["statistics"]["mean"], META["statistics"]["mean"])
    np.testing.assert_array_equal(saved.variables()["params/b"], 3)
    (warning,) = [r.getMessage() for r in caplog.records]
    assert warning.startswith(f"checkpoint {place} is damaged: ")
    assert warning.endswith("; step 3 is used")
    assert "\n" not in warning
    with pytest.raises(UserError, match=r"no checkpoint of step 6|step 6 in .* is damaged"):
        Saved(run).restore(target(), 6)
    assert contents(run) == before  # a reader changes nothing

    with Checkpoints(run, damaged=saved.damaged) as checkpoints:  # who trains sets it aside, and goes on
        assert checkpoints.steps() == [3]
        checkpoints.save(state_at(6), META)
    assert {p.name for p in place.parent.iterdir()} == {"3", "6", "damaged-6-1"}
    assert_is(Saved(run).restore(target()), 6)
    assert list(saved.damaged) == [6]


def test_each_bit_that_is_flipped_and_each_file_that_is_cut_or_lost_is_found(run):
    place, rng, saved = run / "checkpoints" / "6", random.Random(0), Saved(run)
    assert saved.problem(6) is None
    count = 0
    for path in files_of(place):
        good = path.read_bytes()
        for bit in {0, len(good) * 8 - 1, *(rng.randrange(len(good) * 8) for _ in range(8))}:
            flip(path, bit)
            problem = saved.problem(6)
            assert problem, (path, bit)
            assert path.name in problem
            path.write_bytes(good)
            count += 1
        for cut in (0, len(good) - 1):
            path.write_bytes(good[:cut])
            assert path.name in saved.problem(6)
            path.write_bytes(good)
        path.unlink()
        # Without its digests a step is looked at as one of an older version, and the lack is told.
        assert path.name in (saved.problem(6) or (saved.without_digests(6) and path.name))
        path.write_bytes(good)
    assert saved.problem(6) is None
    assert count > 150


def test_where_all_steps_are_damaged_the_error_names_each_and_nothing_is_trained(run):
    for step in (3, 6):
        os.truncate(largest(run / "checkpoints" / str(step)), 10)
    with pytest.raises(UserError) as error:
        Saved(run).newest()
    for words in ("no good checkpoint is left", "step 6: state/", "step 3: state/", "10 bytes of", "--fresh"):
        assert words in str(error.value)


def test_a_run_whose_checkpoints_were_all_set_aside_does_not_begin_anew(run, capsys):
    for step in (3, 6):
        os.truncate(largest(run / "checkpoints" / str(step)), 10)
    verify.run_verify(run, repair=True)
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"damaged-3-1", "damaged-6-1"}
    with pytest.raises(UserError, match=r"(?s)no good checkpoint is left.*damaged-3-1: set aside before.*--fresh"):
        Saved(run).newest()


def test_only_the_folder_of_a_step_is_a_step(run, caplog):
    folder = run / "checkpoints"
    shutil.copytree(folder / "3", folder / "00045")
    shutil.copytree(folder / "3", folder / "9999999")
    shutil.copytree(folder / "3", folder / "٣")  # int() reads it as 3
    (folder / "2026-notes.txt").write_text("mine")
    (folder / "12").write_text("mine")
    (folder / "notes").mkdir()
    (folder / "mine.orbax-checkpoint-tmp").mkdir()
    (folder / "9.orbax-checkpoint-tmp").mkdir()
    before = contents(folder)
    saved = Saved(run)
    assert_is(saved.restore(target()), 6)
    warnings = [r.getMessage() for r in caplog.records]
    assert len(warnings) == 2
    assert all(name in warnings[0] for name in ("'00045'", "'12'", "'2026-notes.txt'", "left alone"))
    assert "9999999 is damaged: it holds step 3: is it a copy?; step 6 is used" in warnings[1]
    assert (folder / "9.orbax-checkpoint-tmp").exists()
    with Checkpoints(run, damaged=saved.damaged) as checkpoints:
        for step in (9, 12, 15):
            checkpoints.save(state_at(step), META)
    names = {p.name for p in folder.iterdir()}
    assert names == {"12", "15", "00045", "2026-notes.txt", "notes", "٣", "mine.orbax-checkpoint-tmp"} | {
        "damaged-9999999-1",
        "damaged-12-1",
    }
    assert (folder / "damaged-12-1").read_text() == "mine"
    assert all(contents(folder)[name] == before[name] for name in before if name.startswith(("00045/", "2026")))
    assert saved.steps() == [12, 15]


def test_what_is_no_step_alone_leaves_a_run_to_begin(tmp_path):
    folder = tmp_path / "checkpoints"
    (folder / "7").mkdir(parents=True)
    (folder / "2026-notes.txt").write_text("mine")
    assert Saved(tmp_path).newest() is None
    with pytest.raises(UserError, match=r"no checkpoint in .*, only 7, 2026-notes.txt"):
        Saved(tmp_path).meta()
    workdirs.write_json(tmp_path / "run.json", {"launches": [{}]})  # a run was here: nothing begins anew in silence
    with pytest.raises(UserError, match=r"(?s)no good checkpoint is left.*step 7: it is an empty folder"):
        Saved(tmp_path).newest()


def test_a_step_that_is_deleted_while_it_is_read_gives_way_to_the_next(run):
    saved, asked = Saved(run), Saved(run)
    assert saved.newest() == 6
    assert asked.meta(6)["config"] == CONFIG
    with Checkpoints(run) as checkpoints:
        for step in (9, 12):
            checkpoints.save(state_at(step), META)
    assert_is(saved.restore(target()), 12)
    with pytest.raises(UserError, match=r"step 6 .* was deleted while it was read: .* Steps that are left: 9, 12"):
        asked.restore(target(), 6)


def test_a_step_without_digests_is_told_and_its_structure_checked(run, caplog):
    place = run / "checkpoints" / "6"
    (place / digests.NAME).unlink()
    assert_is(Saved(run).restore(target()), 6)
    assert "digests.json is missing (it was deleted): flipped bits of step 6" in caplog.text
    caplog.clear()
    metadata = json.loads((place / "_CHECKPOINT_METADATA").read_text())
    (place / "_CHECKPOINT_METADATA").write_text(json.dumps(metadata | {"custom_metadata": {}}))
    assert_is(Saved(run).restore(target()), 6)
    assert "is missing (it is of an older version of jaxvision)" in caplog.text
    caplog.clear()
    shutil.copytree(place, run / "checkpoints" / "8")
    os.truncate(place / "meta" / "metadata", 3)
    assert_is(Saved(run).restore(target()), 3)
    assert "6 is damaged: " in caplog.text
    assert "8 is damaged: it holds step 6: is it a copy?" in caplog.text


def test_a_save_that_is_killed_right_after_its_commit_is_a_good_one(run):
    place = run / "checkpoints" / "6"
    step, files = digests.read(place)
    digests._write(place, step, {name: pair for name, pair in files.items() if name not in digests.LATE})
    assert Saved(run).problem(6) is None
    (place / ".digests-123.json").write_text("{")  # and one that is killed while it adds the last two
    assert Saved(run).problem(6) is None
    digests.complete(place, 6)
    assert digests.read(place) == (step, files)


def test_digests_are_the_published_ones(tmp_path):
    (tmp_path / "a").write_bytes(b"123456789")  # the input of the check values of CRC-32/ISCSI and CRC-32/ISO-HDLC
    digests.write(tmp_path, 5)
    assert digests.read(tmp_path) == (5, {"a": (9, 0xE3069283, 0xCBF43926)})


def test_a_file_in_the_place_of_another_of_its_size_is_found(run):
    """Files of OCDBT end with their CRC-32C, which makes that of the whole file the same for all."""
    folder, saved = run / "checkpoints", Saved(run)
    name = "state/manifest.ocdbt"
    old, new = ((folder / step / name).read_bytes() for step in "36")
    assert len(old) == len(new)
    assert digests.read(folder / "3")[1][name][1] == digests.read(folder / "6")[1][name][1]
    (folder / "6" / name).write_bytes(old)
    assert saved.problem(6) == f"{name} is not what was written (its digest differs)"


def test_no_save_and_no_digests_are_lost_by_wait(run):
    with Checkpoints(run) as checkpoints:
        checkpoints.save(state_at(9), META)
        checkpoints.wait()
        assert set(digests.LATE) <= digests.read(run / "checkpoints" / "9")[1].keys()
        assert {p.name for p in (run / "checkpoints").iterdir()} == {"6", "9"}
        checkpoints.save(state_at(9), META)  # once more changes nothing
        assert checkpoints.steps() == [6, 9]


def test_a_save_that_fails_is_one_line_and_leaves_what_was_there(run, monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Checkpoints(run) as checkpoints:
        with monkeypatch.context() as patch:
            patch.setattr(digests, "write", full)
            checkpoints.save(state_at(9), META)
            with pytest.raises(
                UserError, match=r"^cannot write .*9: No space left on device; the one of step 6 is intact"
            ):
                checkpoints.wait()
        assert caplog.records == []  # no traceback of Orbax's
        assert checkpoints.steps() == [3, 6]
        assert Saved(run).newest() == 6
        checkpoints.save(state_at(12), META)
    assert Saved(run).steps() == [6, 12]
    assert {p.name for p in (run / "checkpoints").iterdir()} <= {"6", "12", "9.orbax-checkpoint-tmp"}


@pytest.mark.parametrize("raised", [Preempted, KeyError])
def test_a_failed_last_save_is_told_unless_something_else_failed_before(run, monkeypatch, caplog, raised):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def train():
        with Checkpoints(run) as checkpoints:
            checkpoints.save(state_at(9), META)
            raise raised("stop")

    monkeypatch.setattr(digests, "write", full)
    with pytest.raises(UserError if raised is Preempted else raised):  # "preempted" would say that it is saved
        train()
    assert ("No space left" in caplog.text) == (raised is KeyError)


def read_on(run, stop, steps, errors):
    """Reads the newest step again and again, and checks every array of it."""
    while not stop.is_set():
        try:
            state = Saved(run).restore(target())
            assert_is(state, int(state.step))
            steps.append(int(state.step))
        except Exception as error:
            errors.append(error)


def read_beside(run, saves, caplog):
    """Saves while others read; returns the steps that they read."""
    stop, steps, errors = threading.Event(), [], []
    readers = [threading.Thread(target=read_on, args=(run, stop, steps, errors)) for _ in range(2)]
    for reader in readers:
        reader.start()
    with Checkpoints(run) as checkpoints:
        for step in range(9, 9 + 3 * saves, 3):
            checkpoints.save(state_at(step), META)
    stop.set()
    for reader in readers:
        reader.join()
    assert errors == []
    assert caplog.records == []
    assert Saved(run).steps() == [3 + 3 * saves, 6 + 3 * saves]
    return steps


def test_readers_beside_a_writer_read_whole_steps_and_harm_none(run, caplog):
    steps = read_beside(run, 8, caplog)
    assert len(set(steps)) > 1


def test_a_bucket_is_verified_by_what_it_says_of_its_objects(bucket, tmp_path, caplog):
    where = storage.path(f"gs://bucket/{tmp_path.name}/run")
    with Checkpoints(where) as checkpoints:
        for step in (3, 6, 9):
            checkpoints.save(state_at(step), META)
    inside = f"{tmp_path.name}/run/checkpoints/"
    assert {name.removeprefix(inside).split("/")[0] for name in bucket.names(inside)} == {"6", "9"}
    name = max(bucket.names(f"{inside}9/state/"), key=lambda name: len(bucket.objects[name][0]))
    content = bytearray(bucket.objects[name][0])
    content[50] ^= 4
    bucket.put(name, bytes(content), {})
    unfinished = f"{inside}12/_CHECKPOINT_METADATA"  # of a save that goes on, or was killed
    bucket.put(unfinished, b"{}", {})
    before = dict(bucket.objects)
    saved = Saved(where)
    assert_is(saved.restore(target()), 6)
    assert f"9 is damaged: {name.removeprefix(inside + '9/')} is not what was written" in caplog.text
    assert bucket.objects == before
    with Checkpoints(where, damaged=saved.damaged) as checkpoints:
        checkpoints.save(state_at(9), META)
    assert {name.removeprefix(inside).split("/")[0] for name in bucket.names(inside)} == {"6", "9", "damaged-9-1"}
    assert_is(Saved(where).restore(target()), 9)


def test_a_run_is_what_its_newest_checkpoint_was_saved_with(run):
    same, other = ConfigDict(CONFIG), ConfigDict(CONFIG | {"seed": 1})
    workdirs.check(run, same)
    (run / "config.json").unlink()
    assert workdirs.saved_config(run).to_dict() == same.to_dict()
    with pytest.raises(UserError, match=r"(?s)its config.json is lost, but its newest checkpoint .*seed: 0 -> 1"):
        workdirs.check(run, other)
    workdirs.claim(run, same)  # writes it again
    assert workdirs.saved_config(run).to_dict() == same.to_dict()
    workdirs.write_json(run / "config.json", other.to_dict())  # somebody edits it
    with pytest.raises(UserError, match=r"(?s)holds a run of another config.*seed: 1 -> 0"):
        workdirs.check(run, same)
    with pytest.raises(UserError, match=r"(?s)is not the one that its newest checkpoint was saved with.*seed: 0 -> 1"):
        workdirs.check(run, other)
    workdirs.record_launch(run, other, 6)  # as every launch is
    with pytest.raises(UserError, match=r"(?s)is not the one that its newest checkpoint was saved with.*seed: 0 -> 1"):
        workdirs.check(run, other)
    workdirs.claim(run, other, resume=True)  # it is meant, and goes on before the first save under it
    workdirs.record_launch(run, other, 6, resume=True)
    workdirs.check(run, other)


def test_an_edited_config_is_told_to_who_reads(run):
    mine = ConfigDict(CONFIG)
    assert workdirs.describe_edit(run, mine) == ""
    workdirs.write_json(run / "config.json", CONFIG | {"seed": 5})
    assert workdirs.describe_edit(run, mine) == f"{run / 'config.json'} was changed (seed: 0 -> 5)"
    workdirs.record_launch(run, ConfigDict(CONFIG | {"seed": 5}), 6, resume=True)
    assert workdirs.describe_edit(run, mine) == ""
    (run / "config.json").write_text("{")
    assert "config.json is not JSON" in workdirs.describe_edit(run, mine)
    (run / "config.json").unlink()
    assert "config.json is missing" in workdirs.describe_edit(run, mine)


def told(run, capsys, **options):
    code = verify.run_verify(run, **options)
    lines = capsys.readouterr().out.splitlines()
    return code, lines


def test_verify_finds_nothing_in_a_whole_run(run, capsys):
    before = contents(run)
    code, lines = told(run, capsys)
    assert code == 0
    assert [line.split()[:2] for line in lines[:-1]] == [
        ["good", name] for name in ("checkpoints/3", "checkpoints/6", "config.json", "run.json", "metrics.jsonl")
    ]
    assert lines[-1] == f"{run}: everything is good"
    assert contents(run) == before


def test_verify_names_each_thing_and_repairs_only_when_asked(run, capsys):
    os.truncate(largest(run / "checkpoints" / "6"), 10)
    (run / "checkpoints" / "3" / digests.NAME).unlink()
    (run / "checkpoints" / "00045").mkdir()
    workdirs.write_json(run / "config.json", CONFIG | {"seed": 1})
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    before = contents(run)
    code, lines = told(run, capsys)
    assert code == 2
    assert contents(run) == before
    starts = {line.split()[1]: (line.split()[0], line) for line in lines[:-1]}
    expected = {
        "checkpoints/3/digests.json": ("warning", "it was deleted"),
        "checkpoints/6": ("DAMAGED", "10 bytes of"),
        "checkpoints/00045": ("warning", "left alone"),
        "config.json": ("DAMAGED", "seed: 0 -> 1"),
        "run.json": ("good", "1 launches"),
    }
    for name, (state, words) in expected.items():
        assert starts[name][0] == state
        assert words in starts[name][1]
    assert '\'{"step": 7, "lo\'' in starts["metrics.jsonl"][1] or "cut off" in "\n".join(lines)

    code, lines = told(run, capsys, repair=True)
    assert sum(line.startswith("repaired") for line in lines) == 4, lines
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"3", "damaged-6-1", "00045"}
    assert workdirs.saved_config(run).seed == 0
    assert json.loads((run / "damaged-config-1.json").read_text())["seed"] == 1
    assert (run / "metrics.jsonl").read_text() == '{"step": 3, "loss": 1.5}\n{"step": 6, "loss": 1.0}\n'
    code, _ = told(run, capsys)
    assert code == 3  # the foreign folder


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"step": 3, "loss": 1}\n{"step": 6, "loss": 1}\n{"step": 3, "x": 1}\n', "its steps are not in order: 3"),
        ('{"step": 3, "loss": 1}\n{"step": 3, "loss": 1}\n{"step": 6, "loss": 1}\n', "numbers twice, for the steps 3"),
        ('{"step": 3, "loss": 1}\nnonsense\n{"step": 6, "loss": 1}\n', "1 of its lines are not metrics: line 2"),
        ('{"step": 6, "loss": 1}\n', "1 of 2 lines of log are missing: steps 3"),
        ('{"step": 3, "loss": 1}\n{"step": 6, "loss": 1}\n{"step": 9, "loss": 1}\n', "1 lines are after checkpoint 6"),
    ],
)
def test_verify_reads_the_metrics(run, capsys, text, words):
    (run / "metrics.jsonl").write_text(text)
    _, lines = told(run, capsys)
    assert any("metrics.jsonl" in line and words in line for line in lines), lines


@pytest.mark.parametrize("name", ["run.json", "results.json"])
def test_verify_names_a_file_that_cannot_be_read(run, capsys, name):
    (run / name).write_text('{"steps": 6, ')
    code, lines = told(run, capsys)
    assert code == 2
    assert any(line.startswith(f"DAMAGED  {name}") and "is not JSON" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "results.json",
            {"steps": 6, "seconds": 1.0, "results": {"a": "b"}},
            "DAMAGED  results.json .*'a' is not a number",
        ),
        ("results.json", {"steps": "6", "seconds": 1.0, "results": {}}, "DAMAGED  results.json .*'steps' is '6'"),
        ("run.json", {"launches": [7]}, "DAMAGED  run.json .*without 'start_step'"),
        ("run.json", {"launches": [{"start_step": 0, "goodput": 7}]}, "warning  run.json .*1 launches; the times"),
    ],
)
def test_verify_names_what_train_cannot_use(run, capsys, name, content, words):
    workdirs.write_json(run / name, content)
    _, lines = told(run, capsys)
    assert any(re.match(words, line) for line in lines), lines


def test_verify_of_no_run(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        verify.run_verify(tmp_path)


# What follows takes minutes.

FILE = """
from ml_collections import ConfigDict

def get_config():
    c = ConfigDict()
    c.seed = 0
    sizes = dict(image_size=32, train=80, validation=24, test=8)
    c.data = dict(name="shapes", options=sizes, split="train", batch_size=16)
    c.augment = "standardize"
    c.model = dict(name="resnet", variant="8", width=0.25)
    c.task = dict(name="supervised")
    c.optimizer = dict(name="sgd", learning_rate=0.1, momentum=0.9)
    c.train = dict(total="30 steps", log_every="2 steps", checkpoint_every="3 steps")
    c.evals = dict(val=dict(name="classify", split="validation", every="10 steps"))
    return c
"""


def cli(*words, **variables):
    return subprocess.Popen(
        [sys.executable, "-c", "from jaxvision.cli import main; main()", *words],
        env={**os.environ, "JAX_NUM_CPU_DEVICES": "1", **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, code=0):
    out, err = process.communicate(timeout=600)
    assert process.returncode == code, (out, err)
    assert "Traceback" not in err
    return out, err


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """The config file of a real run and its workdir, stopped at step 9, with the steps 6 and 9."""
    folder = tmp_path_factory.mktemp("real")
    patch = pytest.MonkeyPatch()
    patch.setenv("JAXVISION_DATA", str(folder / "data"))
    (folder / "config.py").write_text(FILE)
    words = "train", f"--config={folder / 'config.py'}"
    finish(cli(*words, f"--workdir={folder / 'run'}", "--stop_after=9"), 85)
    yield words, folder / "run"
    patch.undo()


@pytest.mark.slow
def test_every_damage_of_every_file_of_a_real_run_is_found(real, tmp_path, record_property):
    run = shutil.copytree(real[1], tmp_path / "run")
    place, rng, saved, wrong, count = run / "checkpoints" / "9", random.Random(1), Saved(run), 0, 0
    for path in files_of(place):
        good = path.read_bytes()
        damaged = [good[:n] for n in {0, 1, len(good) // 2, len(good) - 1}] + [good + b"x", bytes(len(good)), None]
        for _ in range(40):
            flipped = bytearray(good)
            flipped[rng.randrange(len(good))] ^= 1 << rng.randrange(8)
            damaged.append(bytes(flipped))
        for content in damaged:
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content)
            count += 1
            wrong += not (saved.problem(9) or saved.without_digests(9))
        path.write_bytes(good)
    assert saved.problem(9) is None
    record_property("promise", "a damaged checkpoint is found")
    record_property("injections", count)
    record_property("wrong", wrong)
    assert wrong == 0
    assert count > 1000


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_a_real_run_goes_on_from_the_good_step_and_ends_as_it_would_have(real, tmp_path, processes, record_property):
    words, stopped = real
    count = wrong = 0

    def train(workdir):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            job = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{free.getsockname()[1]}", "JAX_NUM_PROCESSES": str(processes)}
        job = job if processes > 1 else {}
        ranks = [{"JAX_PROCESS_ID": str(i)} if job else {} for i in range(processes)]
        return [finish(p) for p in [cli(*words, f"--workdir={workdir}", **job, **rank) for rank in ranks]]

    shutil.copytree(stopped, tmp_path / "whole")
    if processes > 1:  # sums over two processes differ in rounding from those of one, which went up to step 9
        shutil.rmtree(tmp_path / "whole" / "checkpoints" / "9")
    train(tmp_path / "whole")
    whole = Saved(tmp_path / "whole").variables()
    for damage in ("flipped bit", "missing", "meta is no JSON", "folder is empty", "digests are broken"):
        run = shutil.copytree(stopped, tmp_path / damage.replace(" ", "_"))
        DAMAGES[damage](run / "checkpoints" / "9")
        out, err = train(run)[0]
        assert "9 is damaged: " in err
        assert "resuming from step 6" in out
        variables = Saved(run).variables()
        count += 1
        wrong += not all(np.array_equal(variables[name], whole[name]) for name in whole)
        assert (run / "checkpoints" / "damaged-9-1").is_dir()
    record_property("promise", "a damaged checkpoint is found")
    record_property("injections", count)
    record_property("wrong", wrong)
    assert wrong == 0


@pytest.mark.slow
def test_readers_beside_a_real_training_harm_nothing(real, tmp_path, record_property):
    words, _ = real
    run, alone = tmp_path / "run", tmp_path / "alone"
    finish(cli(*words, f"--workdir={alone}"))
    training = cli(*words, f"--workdir={run}")
    while not (run / "checkpoints").is_dir() and training.poll() is None:
        time.sleep(0.05)
    kinds = [["evaluate"], ["verify"], [*words, "--config.seed=1"]]
    reads = 0
    while training.poll() is None:
        readers = [cli(*kind, f"--workdir={run}") for kind in kinds]
        for reader in readers:
            _, err = reader.communicate(timeout=600)
            assert "Traceback" not in err, err
            assert "damaged" not in err
            reads += 1
    finish(training)
    mine, theirs = Saved(run).variables(), Saved(alone).variables()
    wrong = sum(not np.array_equal(mine[name], theirs[name]) for name in theirs)
    record_property("promise", "readers do no harm")
    record_property("injections", reads)
    record_property("wrong", wrong)
    assert wrong == 0
    assert reads >= 3


@pytest.mark.slow
def test_readers_beside_many_saves(run, caplog, record_property):
    steps = read_beside(run, 150, caplog)
    record_property("promise", "readers do no harm")
    record_property("injections", len(steps))
    assert len(set(steps)) > 10
