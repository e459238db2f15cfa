"""`jaxvision study`: runs once, analyses all, goes on where it was left, here or as processes."""

import csv
import json
import shutil
import signal
import subprocess
import sys
import time

import pyarrow.parquet
import pytest
from ml_collections import ConfigDict

from jaxvision import config as configs
from jaxvision import workdir as workdirs
from jaxvision.commands import study, study_jobs
from jaxvision.errors import UserError
from jaxvision.exits import EXIT_PREEMPTED
from jaxvision.train.metrics import read

STUDY = """
from ml_collections import ConfigDict

from jaxvision.commands.study import Run, config_of, records, sibling

PRESETS = ("staged", "one", "broken", "images")
names = sibling(__file__, "names")


def run(rate, **more):
    c = ConfigDict()
    c.seed = 0
    sizes = dict(image_size=32, train=80, validation=24, test=8)
    c.data = dict(name="shapes", options=sizes, split="train", batch_size=16, classes=10, examples=80)
    c.augment = "normalize(0.5, 0.5)"
    c.model = dict(name="lenet")
    c.task = dict(name="supervised")
    c.optimizer = dict(name="sgd", learning_rate=rate)
    c.train = dict(total="30 steps", log_every="1 step", checkpoint_every="0 steps")
    c.evals = dict(val=dict(name="classify", split="validation"))
    return Run(names.of(rate), c, dict(rate=rate), **more)


def best(rows, out):
    rate = max((row for row in rows if "error" not in row), key=lambda row: row["val/top1"])["rate"]
    return {"optimizer.learning_rate": 2 * rate}


def runs(preset, data_dir):
    if preset == "broken":
        return [run(0.1), run(1e30)]
    if preset == "one":
        return [run(0.1)]
    if preset == "images":
        one = run(0.1)
        size = dict(classes=10, examples=80, image_size=32)
        one.config.data = dict(name="folder", data_dir=data_dir, split="train", batch_size=16, **size)
        return [one]
    unneeded = run(0.5, fill=lambda rows, out: None)
    filled = run(0.4, fill=best)._replace(name="best")
    return [run(0.1), run(0.2), run(1e30, may_fail=True), filled, unneeded]


def get_config(arg):
    return config_of(arg, PRESETS, runs)


def analyse(rows, out, preset):
    lines = [f"{row}, {records(out, row['run'])}" for row in rows]
    (out / "report.md").write_text("\\n".join(lines))
    return f"{len(rows)} rows"
"""


WRONG = """

def wrong(one):
    one.config.evals.val.split = "validatoin"
    return one
"""


def write_study(folder):
    """A study of tiny runs, in two files."""
    folder = folder / "experiments" / "tiny"
    folder.mkdir(parents=True)
    (folder / "study.py").write_text(STUDY)
    (folder / "names.py").write_text('def of(rate):\n    return f"rate{rate:g}"\n')


@pytest.fixture
def tiny_study(tmp_path, monkeypatch):
    """A folder with that study, which is the current one."""
    write_study(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def done(tmp_path_factory, data_cache):
    """A folder with that study, done in `out`."""
    folder = tmp_path_factory.mktemp("study")
    write_study(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert study.run_study("tiny", folder / "out") == "4 rows"
    return folder


@pytest.fixture
def in_done(done, monkeypatch):
    monkeypatch.chdir(done)
    return done


def table(out):
    return list(csv.DictReader((out / "results.csv").open()))


def start(folder):
    words = [sys.executable, "-m", "jaxvision.cli", "study", "tiny", "--out=out"]
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def wait_for(condition, process, seconds=120):
    until = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stdout.read()
        assert time.monotonic() < until
        time.sleep(0.02)


def test_the_table_has_a_row_for_every_run_that_was_needed(done):
    out, rows = done / "out", {row["run"]: row for row in table(done / "out")}
    assert list(rows) == ["rate0.1", "rate0.2", "rate1e+30", "best"]
    assert pyarrow.parquet.read_table(out / "results.parquet").column("run").to_pylist() == list(rows)
    last = read(out / "runs" / "rate0.2" / "metrics.jsonl")[-1]
    assert float(rows["rate0.2"]["val/top1"]) == last["val/top1"]


def test_a_run_is_filled_from_the_rows_of_others(done):
    rows = {row["run"]: row for row in table(done / "out")}
    winner = max(("rate0.1", "rate0.2"), key=lambda name: float(rows[name]["val/top1"]))
    config = json.loads((done / "out" / "runs" / "best" / "config.json").read_text())
    assert config["optimizer"]["learning_rate"] == 2 * float(rows[winner]["rate"])


def test_a_run_that_diverges_is_a_result_where_it_may(done):
    (error,) = [row["error"] for row in table(done / "out") if row["error"]]
    assert "the loss of step" in error


def test_a_second_call_runs_nothing_and_gives_the_same_bytes(in_done, capsys):
    out = in_done / "out"
    files = [out / "results.csv", out / "results.parquet", *out.glob("runs/*/results.json")]
    before = [(path.read_bytes(), path.stat().st_mtime_ns) for path in files[2:]]
    tables = [path.read_bytes() for path in files[:2]]
    study.run_study("tiny", out)
    assert capsys.readouterr().out.count("already done") == 4
    assert before == [(path.read_bytes(), path.stat().st_mtime_ns) for path in files[2:]]
    assert tables == [path.read_bytes() for path in files[:2]]


def test_a_dry_run_lists_runs_and_cost_and_writes_nothing(tiny_study, capsys):
    assert study.run_study("tiny", tiny_study / "out", dry_run=True) == ""
    output = capsys.readouterr().out
    assert "rate0.2" in output
    assert "5 runs, " in output
    assert "FLOPs, about " in output
    assert not (tiny_study / "out").exists()


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_data_dir_that_is_not_there(tiny_study, dry_run):
    for name, message in (("nowhere", "does not exist"), ("experiments/tiny/study.py", "is a file, not a folder")):
        with pytest.raises(UserError, match=f"--data_dir={name} {message}: give the folder of the data set"):
            study.run_study("tiny", tiny_study / "out", data_dir=name, dry_run=dry_run)
    assert not (tiny_study / "out").exists()


def test_a_dry_run_says_that_the_data_are_not_here(tiny_study, capsys):
    study.run_study("tiny", tiny_study / "out", preset="images", dry_run=True)
    output = capsys.readouterr().out
    assert "warning: the training set of 1 of 1 runs (rate0.1) is not here, and they would fail: " in output
    assert "the data set 'folder' needs data_dir" in output
    assert "study tiny, preset images: " in output
    (tiny_study / "pictures").mkdir()
    study.run_study("tiny", tiny_study / "out", preset="images", data_dir="pictures", dry_run=True)
    assert "would fail: no images in pictures" in capsys.readouterr().out


def test_runs_of_another_config_are_not_taken_for_done(in_done):
    text = (in_done / "experiments" / "tiny" / "study.py").read_text()
    other = in_done / "experiments" / "other"
    other.mkdir()
    (other / "study.py").write_text(text.replace('"30 steps"', '"31 steps"'))
    (other / "names.py").write_bytes((in_done / "experiments" / "tiny" / "names.py").read_bytes())
    with pytest.raises(UserError, match="train.total: '30 steps' -> '31 steps'"):
        study.run_study("other", in_done / "out", preset="one")


def test_the_command_of_a_run_has_what_was_filled_in(in_done):
    module = study.load_study("tiny")
    (best,) = [one for one in module.runs("staged", None) if one.name == "best"]
    filled = best._replace(config=configs.override(best.config, {"optimizer.learning_rate": 0.7}))
    words = study_jobs.command_of(f"{module.__file__}:staged", filled, in_done / "out" / "runs" / "best")
    assert words[3:] == [
        "train",
        f"--config={module.__file__}:staged/best",
        f"--workdir={in_done}/out/runs/best",
        "--config.optimizer.learning_rate=0.7",
    ]


def test_the_report_is_made_again_from_the_rows_alone(in_done, tmp_path):
    out = in_done / "out"
    for suffix in ("csv", "parquet"):
        kept = tmp_path / suffix
        kept.mkdir()
        for name in ("results", "curves"):
            (kept / f"{name}.{suffix}").write_bytes((out / f"{name}.{suffix}").read_bytes())
        before = {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in kept.iterdir()}
        again = tmp_path / f"from_{suffix}"
        assert study.run_study("tiny", again, source=kept if suffix == "csv" else kept / "results.parquet") == "4 rows"
        for name in ("report.md", "results.csv", "results.parquet", "curves.csv", "curves.parquet"):
            assert (again / name).read_bytes() == (out / name).read_bytes(), name
        assert before == {file: (file.read_bytes(), file.stat().st_mtime_ns) for file in kept.iterdir()}
    (kept / "curves.parquet").unlink()
    study.run_study("tiny", again, source=kept)
    assert not list(again.glob("curves.*")), "those of an earlier call are of other rows"
    report = (out / "report.md").read_text()
    assert "'step': 30, 'val/top1'" in report or "'val/top1'" in report.split("'step': 30")[-1]
    assert "examples_per_second" not in report


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "val/top1",
            "vall/top1",
            "has the column 'vall/top1', which is unknown; did you mean 'val'.*'rate', 'val/...'",
        ),
        ('"rate"', '"rat"', "has no column 'rate', which the rows of preset 'staged' need"),
        ('"rate0.1",0.1', '"rate0.1",0.3', "has rate '0.3' for rate0.1, and the study 0.1"),
        ('"rate0.1",0.1', '"rate0.2",0.1', "has 'rate0.2' twice"),
        ('"rate0.1",0.1', '"rate0.3",0.1', "has 'rate0.3', which is no run of preset 'staged': give the --preset"),
        ('"rate0.1",', None, "has no row of 1 runs of preset 'staged': 'rate0.1'"),
        ('"best",', None, "has no row of 1 runs of preset 'staged': 'best'"),
        ('"run"', '"run', "cannot read .*results.csv"),
    ],
)
def test_rows_of_something_else_are_refused(in_done, tmp_path, old, new, message):
    lines = (in_done / "out" / "results.csv").read_text().splitlines(keepends=True)
    lines = [line if new is None else line.replace(old, new) for line in lines if new or not line.startswith(old)]
    (tmp_path / "results.csv").write_text("".join(lines))
    with pytest.raises(UserError, match=message):
        study.run_study("tiny", tmp_path / "again", source=tmp_path / "results.csv")
    assert not (tmp_path / "again").exists()


def test_folders_that_rows_are_not_made_again_in(in_done, tmp_path):
    out = in_done / "out"
    with pytest.raises(UserError, match="is the folder of --from"):
        study.run_study("tiny", out, source=out)
    (tmp_path / "other" / "runs").mkdir(parents=True)
    with pytest.raises(UserError, match="holds the runs of a study"):
        study.run_study("tiny", tmp_path / "other", source=out)
    with pytest.raises(UserError, match="holds no results"):
        study.run_study("tiny", tmp_path / "again", source=tmp_path / "other")
    with pytest.raises(UserError, match="--from does no runs"):
        study.run_study("tiny", tmp_path / "again", source=out, dry_run=True)
    shutil.copy(out / "curves.csv", tmp_path)
    (tmp_path / "curves.csv").write_text((out / "curves.csv").read_text().replace("rate0.2", "rate0.3"))
    shutil.copy(out / "results.csv", tmp_path)
    with pytest.raises(UserError, match="curves.csv has 'rate0.3', which results.csv has not"):
        study.run_study("tiny", tmp_path / "again", source=tmp_path)


@pytest.mark.slow
def test_killed_and_continued_gives_the_same_numbers(done, tiny_study):
    runs = tiny_study / "out" / "runs"
    process = start(tiny_study)
    wait_for((runs / "rate0.1" / "metrics.jsonl").exists, process)
    process.kill()
    process.wait()
    process = start(tiny_study)
    wait_for((runs / "rate0.2" / "metrics.jsonl").exists, process)
    process.send_signal(signal.SIGTERM)
    output = process.communicate()[0]
    assert process.returncode in (EXIT_PREEMPTED, 0), output  # 0: it was faster than the signal
    process = start(tiny_study)
    output = process.communicate()[0]
    assert process.returncode == 0, output
    assert table(tiny_study / "out") == table(done / "out")


@pytest.mark.slow
def test_runs_as_processes_give_the_same_table(done, tiny_study):
    study.run_study("tiny", tiny_study / "out", launcher="local", parallel=2)
    here, there = table(done / "out"), table(tiny_study / "out")
    errors = [row.pop("error") for row in [*here, *there]]
    assert here == there
    assert all("the loss of step" in error for error in errors if error)
    for name in ("rate0.2", "best"):
        saved = [(folder / "out" / "runs" / name / "config.json").read_text() for folder in (done, tiny_study)]
        assert saved[0] == saved[1]


@pytest.mark.slow
def test_processes_that_fail_are_named_when_the_others_have_ended(tiny_study):
    out = tiny_study / "out"
    with pytest.raises(UserError, match=r"1 of 2 runs failed.*\n.*rate1e\+30: .*the loss of step"):
        study.run_study("tiny", out, preset="broken", launcher="local", parallel=2)
    assert (out / "runs" / "rate0.1" / "results.json").exists()
    assert not (out / "results.csv").exists()


def test_what_a_later_run_would_be_refused_for_is_found_before_the_first(tiny_study):
    file = tiny_study / "experiments" / "tiny" / "study.py"
    file.write_text(file.read_text().replace("[run(0.1), run(1e30)]", "[run(0.1), wrong(run(0.2))]") + WRONG)
    study._module.cache_clear()
    with pytest.raises(UserError, match=r"^.*0.2.*: .*validatoin"):
        study.run_study("tiny", tiny_study / "out", preset="broken")
    assert not (tiny_study / "out").exists()


def test_names_that_are_not_there(tiny_study):
    with pytest.raises(UserError, match="unknown study 'tyny'; did you mean 'tiny'"):
        study.run_study("tyny", tiny_study / "out")
    with pytest.raises(UserError, match="unknown preset of study 'tiny' 'three'"):
        study.run_study("tiny", tiny_study / "out", preset="three")


@pytest.mark.parametrize(("loss", "may_fail", "error"), [(6e29, True, True), (6e29, False, False), (2.0, True, False)])
def test_a_run_that_may_fail_and_ended_at_a_huge_loss_has_an_error_in_place_of_results(tmp_path, loss, may_fail, error):
    config = ConfigDict({name: {} for name in ("data", "model", "task", "optimizer", "train")})
    one = study.Run("a", config, {"rate": 1.0}, may_fail=may_fail)
    folder = study.workdir(tmp_path, "a")
    workdirs.claim(folder, one.config)
    (folder / "metrics.jsonl").write_text(f'{{"step": 1, "loss": 2.3}}\n{{"step": 9, "loss": {loss}}}\n')
    workdirs.write_json(folder / "results.json", {"steps": 9, "seconds": 1.0, "results": {"val/top1": 0.9}})
    row = study.row_of(one, tmp_path)
    assert ("error" in row, "val/top1" in row) == (error, not error)


def test_a_file_that_is_no_python_file_is_no_study(tmp_path):
    (tmp_path / "notes").write_text("print('run')")
    with pytest.raises(UserError, match="unknown study .*or the path of a folder with a study.py"):
        study.load_study(str(tmp_path / "notes"))
