"""Files that no run wrote are left alone, and those that are damaged are named."""

import numpy as np
import pytest

from jaxvision import outputs, storage
from jaxvision import workdir as workdirs
from jaxvision.commands import tables
from jaxvision.data import staging
from jaxvision.errors import UserError
from jaxvision.evals.store import Features, Store
from jaxvision.launch import base
from jaxvision.train import metrics


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
        UserError, match=f"holds {name}, but neither config.json nor a checkpoint.*give another --workdir"
    ):
        workdirs.claim(tmp_path / "run", config)
    assert sorted(tmp_path.rglob("*")) == before
    workdirs.claim(tmp_path / "run", config, fresh=True)
    assert (tmp_path / "run.1" / name).exists()


def test_fresh_moves_the_run_and_not_the_link_that_leads_to_it(tmp_path, config):
    disk, link = tmp_path / "disk" / "run", tmp_path / "run"
    disk.mkdir(parents=True)
    link.symlink_to(disk)
    with workdirs.writer(link) as lock:
        workdirs.claim(link, config, lock=lock)
        (link / "metrics.jsonl").write_text("")
        workdirs.claim(link, config, fresh=True, lock=lock)
        lock.check()
    assert link.is_symlink()
    assert link.resolve() == disk
    assert [p.name for p in disk.iterdir()] == ["config.json"]
    assert (tmp_path / "disk" / "run.1" / "metrics.jsonl").exists()


@pytest.mark.parametrize("name", ["tensorboard", "checkpoints", "lock.json"])
def test_what_is_no_folder_or_no_file_is_named(tmp_path, config, name):
    (tmp_path / name).mkdir() if name == "lock.json" else (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=f"{name} is a fil|{name} is a folder, but a run has a file"):
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


def test_files_of_an_earlier_call_go_and_those_of_others_stay(tmp_path):
    """Also if the user wrote or changed a file whose name the earlier call had."""
    out, names = tmp_path / "out", ["index.html", "a.png", "b.png", "c.png"]
    with outputs.filling(out, names, "--out", ["worst.png"]) as here:
        for name in ("index.html", "a.png", "b.png", "worst.png"):
            (here / name).write_text("first")
    for name in ("b.png", "c.png", "mine.txt"):
        (out / name).write_text("the user's")
    with pytest.raises(UserError, match="holds c.png, which no earlier call"):  # though the first one might have
        outputs.check(out, names, "--out")
    names.remove("c.png")
    with outputs.filling(out, names, "--out", ["worst.png"]) as here:
        assert not list(here.iterdir())
        (here / "index.html").write_text("second")
    found = {path.name: path.read_text() for path in out.iterdir() if path.name != outputs.MARK}
    assert found == {"index.html": "second", "b.png": "the user's", "c.png": "the user's", "mine.txt": "the user's"}


def test_a_call_that_fails_leaves_the_files_of_the_earlier_one(tmp_path):
    with outputs.filling(tmp_path, ["index.html", "a.png"], "--out") as here:
        (here / "index.html").write_text("first")
        (here / "a.png").write_text("first")

    def fail():
        with outputs.filling(tmp_path, ["index.html", "a.png"], "--out") as here:
            (here / "index.html").write_text("second")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [(tmp_path / name).read_text() for name in ("index.html", "a.png")] == ["first", "first"]


def test_a_folder_of_an_earlier_version_is_still_known(tmp_path):
    (tmp_path / outputs.MARK).write_text('["index.html"]')
    (tmp_path / "index.html").write_text("ours")
    outputs.claim(tmp_path, ["index.html", "a.png"], "--out")
    (tmp_path / "a.png").write_text("ours")
    outputs.check(tmp_path, ["index.html", "a.png"], "--out")


def test_a_table_does_not_replace_a_record_of_a_run(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is a file of the run"):
        tables.check_output("table", tmp_path / "metrics.jsonl")
    tables.check_output("table", tmp_path / "mine.jsonl")


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
    Store({}, tmp_path).keep({}, {}, "features", kept)
    (file,) = tmp_path.glob("*.npz")
    file.write_bytes(file.read_bytes()[:90])
    assert Store({}, tmp_path).find({}, {}, "features") is None
    assert "computing the features again" in caplog.text


def test_torn_lines_are_left_out_and_those_in_the_middle_told(tmp_path, caplog):
    content = b'{"step": 1}\n{"step": 2, "lo\n\xff\0\n[3]\n{"step": "x"}\n{"step": 3}\n{"step": 4, "l'
    (tmp_path / "metrics.jsonl").write_bytes(content)
    parsed = metrics.parse(tmp_path / "metrics.jsonl")
    assert parsed == ([{"step": 1}, {"step": 3}], [2, 3, 4, 5], '{"step": 4, "l')
    metrics.Records(tmp_path, 3).close()
    assert "lines 2, 3, 4, 5 cannot be read" in caplog.text
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n{"step": 3}\n'
    assert (tmp_path / "metrics.damaged.jsonl").read_bytes() == content + b"\n"
    metrics.Records(tmp_path, 3).close()
    assert caplog.text.count("cannot be read") == 1
