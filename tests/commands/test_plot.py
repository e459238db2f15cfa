"""Pages of runs that were written by hand, of a trained one, and of one that is still running."""

import csv
import json
import logging
import re
import subprocess
import sys

import numpy as np
import pytest
from written_runs import write_run

from jaxvision.analysis.statistics import t_interval
from jaxvision.cli import main
from jaxvision.commands import plot, run_groups, run_page, run_records
from jaxvision.errors import UserError


def files(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def text_of(out):
    return (out / "index.md").read_text()


def test_a_run_on_one_page(trained, tmp_path):
    workdir, results = trained
    before = files(workdir)
    plot.run_plot([str(workdir)], tmp_path / "out")
    assert files(workdir) == before
    text = text_of(tmp_path / "out")
    assert "finished at step 6" in text
    for name, value in results.items():
        assert f"| `{name}` | {run_page.cell(name, value)} |" in text
    assert "    batch_size: 16\n" in text
    assert "![curves](curves.svg" in text
    assert {path.suffix for path in (tmp_path / "out").glob("curves.*")} == {".svg", ".png"}
    (row,) = csv.DictReader((tmp_path / "out" / "runs.csv").open())
    assert float(row["val/top1"]) == results["val/top1"]


def test_predictions_are_those_of_the_evaluation(trained, tmp_path):
    workdir, results = trained
    plot.run_plot([str(workdir)], tmp_path, predictions=True)
    rows = list(csv.DictReader((tmp_path / "predictions.csv").open()))
    assert len(rows) == results["val/examples"] == 24
    right = [row["true"] == row["predicted"] for row in rows]
    assert np.mean(right) == pytest.approx(results["val/top1"])
    assert np.mean([float(row["loss"]) for row in rows]) == pytest.approx(results["val/loss"], rel=1e-5)
    assert f"{np.mean(right):.2%} are right" in text_of(tmp_path)
    for row in csv.DictReader((tmp_path / "classes.csv").open()):
        mine = [one for one in rows if one["true"] == row["class"]]
        assert int(row["images"]) == len(mine)
        if mine:
            assert float(row["recall"]) == pytest.approx(np.mean([one["predicted"] == row["class"] for one in mine]))
    assert (tmp_path / "worst.png").stat().st_size > 1000
    assert (tmp_path / "index.html").read_text().count("data:image/") == text_of(tmp_path).count("![")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(evaluation="vall"), "unknown value of --evaluation 'vall'; did you mean 'val'"),
        (dict(step=5), "5"),
    ],
)
def test_wrong_predictions_leave_nothing_written(trained, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        plot.run_plot([str(trained[0])], tmp_path / "out", predictions=True, **options)
    assert not (tmp_path / "out").exists()


def test_seeds_stand_together_with_their_interval(tmp_path, no_figures):
    tops = [0.5, 0.6, 0.7]
    for seed, top1 in enumerate(tops):
        write_run(tmp_path / "runs" / "a" / f"seed{seed}", seed=seed, top1=top1)
    write_run(tmp_path / "runs" / "b", rate=0.2, top1=0.9)
    plot.run_plot([str(tmp_path / "runs")], tmp_path / "out")
    text, interval = text_of(tmp_path / "out"), t_interval(tops)
    assert f"{100 * interval.mean:.1f} ± {100 * interval.half:.1f} %" in text
    assert "`a/seed*`" in text
    assert "in 2 rows: a mean with the 95 % interval" in text
    assert "the band reaches from the lowest to the highest" in text
    assert "The highest `val/top1` is that of `b`, 90.00%" in text
    assert "| `optimizer.learning_rate` | `0.1` | `0.2` |" in text
    assert "| `seed` | `0`, `1`, `2` | `0` |" in text
    rows = list(csv.DictReader((tmp_path / "out" / "runs.csv").open()))
    assert [(row["run"], row["seed"], row["val/top1"]) for row in rows][:2] == [
        ("a/seed0", "0", "0.5"),
        ("a/seed1", "1", "0.6"),
    ]
    plot.run_plot([str(tmp_path / "runs")], tmp_path / "alone", group="none")
    assert "`a/seed1`" in text_of(tmp_path / "alone")
    assert "±" not in text_of(tmp_path / "alone")


def test_the_same_seed_again_is_no_repetition_and_names_differ(tmp_path):
    for number, (seed, rate) in enumerate([(0, 0.1), (0, 0.2), (1, 0.1), (1, 0.2), (0, 0.1)]):
        write_run(tmp_path / f"trial{number}", seed=seed, rate=rate)
    records, _ = run_groups.read(run_groups.find([str(tmp_path)]))
    found = {group.name: [one.name for one in group.records] for group in run_groups.groups(records)}
    assert found == {
        "trial0 and 1 more": ["trial0", "trial2"],
        "trial1 and 1 more": ["trial1", "trial3"],
        "trial4": ["trial4"],
    }


def test_a_run_in_progress_is_read_and_not_touched(tmp_path, no_figures):
    run = write_run(tmp_path / "my run", finished=False, launches=2, skipped_steps=1.0)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 61, "lo')  # it is just being written
    (run / "lock.json").write_text("{}")
    (run / "console.txt").write_text("--- a\nwarning: old\n--- b\nwarning: odd `data`\nstep 1\n")
    before = files(run)
    plot.run_plot([str(run)], tmp_path / "out")
    assert files(run) == before
    text = text_of(tmp_path / "out")
    assert "running at step 60" in text
    assert "so far: the last of each evaluation" in text
    assert "it resumed at step 20" in text
    assert "60 steps were skipped" in text
    assert r"- Odd \`data\`" in text
    assert "Old" not in text
    assert "| `val/top1` | 50.00% |" in text


def test_words_of_a_command_line_stand_for_runs(tmp_path, monkeypatch):
    for name in ("sweep/trials/0002/seed0", "sweep/trials/0010/seed0", "my run", "my other"):
        write_run(tmp_path / name)
    (tmp_path / "my file").write_text("")
    (tmp_path / "sweep" / "waiting" / "launch").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    found = lambda *words: [str(path) for path in run_groups.find(words)]
    assert found("sweep") == ["sweep/trials/0002/seed0", "sweep/trials/0010/seed0"]
    assert found("my*", "my run") == ["my other", "my run"]
    assert found("sweep/**/seed0") == found("sweep")
    assert run_groups.short_names(run_groups.find(["sweep"])) == ["0002/seed0", "0010/seed0"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no run is named"),
        (["missing"], "there is no 'missing'"),
        (["file"], "'file' is a file"),
        (["empty"], "'empty' holds no run"),
        (["x*"], "'x\\*' holds no run"),
        (["a", "b"], "--out is missing for the page of 2 runs"),
        (["a", "--group=sed"], "unknown value of --group 'sed'; did you mean 'seed'"),
        (["a", "--x=epoch"], "unknown value of --x 'epoch'"),
        (["a", "b", "--out=o", "--predictions"], "--predictions is for one run, not for 2"),
        (["a", "--step=3"], "add --predictions"),
        (["a", "--out=file"], "is a file, but should be a folder"),
        (["damaged"], "config.json"),
    ],
)
def test_what_is_wrong_is_told_in_a_line(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "a")
    write_run(tmp_path / "b")
    (write_run(tmp_path / "damaged") / "config.json").write_text("{")
    before = files(tmp_path)
    with pytest.raises(SystemExit):
        main(["jaxvision", "plot", *words])
    assert re.search(message, capsys.readouterr().err)
    assert files(tmp_path) == before


def test_a_damaged_run_among_others_is_left_out(tmp_path, caplog, no_figures):
    write_run(tmp_path / "runs" / "a")
    (write_run(tmp_path / "runs" / "b") / "config.json").write_text("{")
    (write_run(tmp_path / "runs" / "c", seed=1) / "run.json").write_text("[")
    with caplog.at_level(logging.WARNING):
        plot.run_plot([str(tmp_path / "runs")], tmp_path / "out")
    assert "b is left out" in caplog.text
    text = text_of(tmp_path / "out")
    assert "2 runs (2 finished)" in text
    assert "is left out" in text
    assert "run.json" in text.partition("## Warnings")[2]


def test_names_of_a_user_are_only_letters(tmp_path, no_figures):
    write_run(tmp_path / "<b>|x" / "$a[0]", rate=0.1)
    write_run(tmp_path / "<b>|x" / '![q](/etc/passwd) "t"', rate=0.2)
    page = plot.run_plot([str(tmp_path / "<b>|x")], tmp_path / "out").read_text()
    assert "<b>" not in page
    assert "passwd" in page


def test_files_of_the_user_are_not_overwritten(tmp_path):
    write_run(tmp_path / "a")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "index.html").write_text("mine")
    with pytest.raises(UserError, match="holds index.html"):
        plot.run_plot([str(tmp_path / "a")], tmp_path / "out")


def test_a_second_call_leaves_no_figure_of_the_first(tmp_path, no_figures):
    for name in "ab":
        write_run(tmp_path / "runs" / name, seed="ab".index(name))
    write_run(tmp_path / "short", steps=2)  # too short for curves
    plot.run_plot([str(tmp_path / "runs")], tmp_path / "out", group="none")
    assert {"curves.svg", "final.svg"} <= {path.name for path in (tmp_path / "out").iterdir()}
    (tmp_path / "out" / "notes.svg").write_text("mine")
    plot.run_plot([str(tmp_path / "short")], tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        ".jaxvision.json", "index.html", "index.md", "notes.svg", "runs.csv",
    }  # fmt: skip


def test_training_leaves_a_page(config_file, tmp_path, capsys, monkeypatch, caplog):
    monkeypatch.delenv("JAXVISION_PAGE", raising=False)
    words = ["jaxvision", "train", f"--config={config_file}", "--config.train.total=1 steps"]
    main([*words, f"--workdir={tmp_path / 'a'}"])
    assert "page.html" in capsys.readouterr().out
    assert "<h1>Run a</h1>" in (tmp_path / "a" / "page.html").read_text()
    (tmp_path / "a" / "page.html").unlink()
    main([*words, f"--workdir={tmp_path / 'a'}", "--nopage"])
    assert not (tmp_path / "a" / "page.html").exists()
    monkeypatch.setattr(run_page, "whole", lambda *_, **__: 1 / 0)
    with caplog.at_level(logging.WARNING):
        main([*words, f"--workdir={tmp_path / 'a'}"])
    assert "page.html was not written: ZeroDivisionError" in caplog.text
    assert not (tmp_path / "a" / "page.html").exists()


def test_the_two_pages_of_a_run_name_each_other(tmp_path, no_figures):
    run = write_run(tmp_path / "a")
    plot.write_at_end(run)
    record = run / "page.html"
    assert "<code>plots/index.html</code>" in record.read_text()  # which is not there yet, so no link leads to it
    assert '<a href="../page.html">page.html</a>' in plot.run_plot([str(run)]).read_text()
    plot.write_at_end(run)
    assert '<a href="plots/index.html">plots/index.html</a>' in record.read_text()
    elsewhere = plot.run_plot([str(run)], tmp_path / "out").read_text()
    assert f"<code>{record}</code>" in elsewhere
    assert "href" not in elsewhere
    record.unlink()
    assert "page.html" not in plot.run_plot([str(run)]).read_text()


def test_runs_of_a_sweep_make_no_page_of_their_own(tmp_path):
    run = write_run(tmp_path / "a")
    (run / "launch").mkdir()
    (run / "launch" / "command.json").write_text("{}")
    plot.write_at_end(run)
    assert not (run / "page.html").exists()


def test_the_end_of_a_run_is_told_from_its_lock(tmp_path):
    run = write_run(tmp_path / "a", finished=False)
    assert run_records.read_run(run).state == "interrupted"
    (run / "lock.json").write_text(json.dumps(run_records.processes.describe()))
    assert run_records.read_run(run).state == "running"
    gone = run_records.processes.describe() | {"started": "long ago"}
    (run / "lock.json").write_text(json.dumps(gone))
    assert run_records.read_run(run).state == "interrupted"


def test_without_predictions_no_device_is_touched(tmp_path):
    write_run(tmp_path / "a", steps=2)  # too short for curves, which take a second each
    write_run(tmp_path / "b", steps=2)
    script = """
import sys
from jax._src import xla_bridge
from jaxvision.commands import plot
folder = sys.argv[1]
plot.run_plot([folder + "/a"])
plot.run_plot([folder + "/a", folder + "/b"], folder + "/out")
assert not xla_bridge._backends, list(xla_bridge._backends)
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, timeout=120)
