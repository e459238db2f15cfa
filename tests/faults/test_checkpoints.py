"""What may happen to checkpoints: every damage is found and named, a good step is used, and readers change nothing.

These are checkpoints of a few arrays; test_checkpoints_runs.py has those of a real run.
"""

import errno
import json
import os
import random
import shutil
import threading

import numpy as np
import pytest
from ml_collections import ConfigDict
from saved_runs import CONFIG, DAMAGES, META, assert_is, contents, files_of, flip, largest, state_at, target

from jaxvision import launches, storage
from jaxvision import workdir as workdirs
from jaxvision.commands import verify
from jaxvision.errors import UserError
from jaxvision.train import digests
from jaxvision.train.checkpoint import Checkpoints, Saved
from jaxvision.train.watch import Preempted


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
    launches.record_launch(run, other, 6)  # as every launch is
    with pytest.raises(UserError, match=r"(?s)is not the one that its newest checkpoint was saved with.*seed: 0 -> 1"):
        workdirs.check(run, other)
    workdirs.claim(run, other, resume=True)  # it is meant, and goes on before the first save under it
    launches.record_launch(run, other, 6, resume=True)
    workdirs.check(run, other)


def test_an_edited_config_is_told_to_who_reads(run):
    mine = ConfigDict(CONFIG)
    assert workdirs.describe_edit(run, mine) == ""
    workdirs.write_json(run / "config.json", CONFIG | {"seed": 5})
    assert workdirs.describe_edit(run, mine) == f"{run / 'config.json'} was changed (seed: 0 -> 5)"
    launches.record_launch(run, ConfigDict(CONFIG | {"seed": 5}), 6, resume=True)
    assert workdirs.describe_edit(run, mine) == ""
    (run / "config.json").write_text("{")
    assert "config.json is not JSON" in workdirs.describe_edit(run, mine)
    (run / "config.json").unlink()
    assert "config.json is missing" in workdirs.describe_edit(run, mine)


@pytest.mark.slow
def test_readers_beside_many_saves(run, caplog, record_property):
    steps = read_beside(run, 150, caplog)
    record_property("promise", "readers do no harm")
    record_property("injections", len(steps))
    assert len(set(steps)) > 10
