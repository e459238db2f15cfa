"""What the page of several runs says of their results, for runs that were written by hand."""

import json

import pytest
from written_runs import write_run

from jaxvision.analysis import run_plots
from jaxvision.analysis.statistics import t_interval
from jaxvision.commands import plot, run_groups
from jaxvision.train.progress import best_is


def measured(folder, name, value, **options):
    """A finished run with a single result."""
    write_run(folder, **options)
    results = {"steps": 60, "seconds": 9.0, "results": {f"val/{name}": value}}
    (folder / "results.json").write_text(json.dumps(results))


def page(runs, out):
    plot.run_plot([str(runs)], out)
    return (out / "index.md").read_text()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("map", "The highest `val/map` is that of `b`, 0.9;"),
        ("top1_error", "The lowest `val/top1_error` is that of `a`, 20.00%;"),
        ("nll", "The lowest `val/nll` is that of `a`, 0.2;"),
        ("5shot_ridge1024", "The highest `val/5shot_ridge1024` is that of `b`, 0.9;"),
        ("sharpness", "Whether a high or a low `val/sharpness` is better is not known, so no run is named"),
    ],
)
def test_the_best_run_is_told_by_the_name_of_the_result(tmp_path, no_figures, name, said):
    for number, (run, value) in enumerate([("a", 0.2), ("b", 0.9)]):
        measured(tmp_path / "runs" / run, name, value, rate=0.1 + number)
    text = page(tmp_path / "runs", tmp_path / "out")
    assert said in text
    assert ("partly luck" in text) == (name != "sharpness")


def test_in_a_tie_no_run_is_named(tmp_path, no_figures):
    for number, (run, value) in enumerate([("a", 0.5), ("b", 0.5), ("c", 0.2)]):
        measured(tmp_path / "runs" / run, "map", value, rate=0.1 + number)
    text = page(tmp_path / "runs", tmp_path / "out")
    assert "2 share the highest `val/map`, 0.5." in text
    assert "is that of" not in text


@pytest.mark.parametrize(
    ("name", "said", "coloured"),
    [
        ("map", "the 7 with the best `val/map` have one", {f"r{i:02}" for i in range(8, 15)}),
        ("top1_error", "the 7 with the best `val/top1_error` have one", {f"r{i:02}" for i in range(7)}),
        ("sharpness", "the first 7 have one", {f"r{i:02}" for i in range(7)}),
    ],
)
def test_the_best_of_many_runs_have_colours(tmp_path, no_figures, monkeypatch, name, said, coloured):
    fronts = []
    draw = run_plots.curves

    def noted(panels, path, axis, front):
        fronts.append(set(front))
        draw(panels, path)

    monkeypatch.setattr(run_plots, "curves", noted)
    for number in range(15):
        measured(tmp_path / "runs" / f"r{number:02}", name, number / 20, rate=0.1 + number)
    assert said in page(tmp_path / "runs", tmp_path / "out")
    assert fronts
    assert all(front == coloured for front in fronts)


@pytest.mark.parametrize(
    ("best", "names"),
    [
        ("highest", "top1 test/knn/top5 text_to_image/recall1 mean_class prompt_mean worst_top1 mAP 5shot_ridge_draw0"),
        ("lowest", "loss top1_error mean_loss perplexity"),
        (None, "gap l2 prompt_std recall_std loss_over_chance classes 5shot_ridge1024_std topology"),
    ],
)
def test_which_value_is_best(best, names):
    assert {name: best_is(f"val/{name}") for name in names.split()} == dict.fromkeys(names.split(), best)


def test_only_finished_seeds_are_averaged(tmp_path, no_figures):
    for seed, (top1, finished) in enumerate([(0.5, True), (0.6, True), (0.1, False)]):
        write_run(tmp_path / "runs" / "a" / f"seed{seed}", seed=seed, top1=top1, finished=finished)
    for seed in range(2):
        write_run(tmp_path / "runs" / "b" / f"seed{seed}", seed=seed, top1=0.2, rate=0.2, finished=False)
    write_run(tmp_path / "runs" / "c", top1=0.3, rate=0.3, finished=False)
    text = page(tmp_path / "runs", tmp_path / "out")
    interval = t_interval([0.5, 0.6])
    table = text.partition("## Results")[2].partition("## ")[0]
    rows = {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("| `")}
    assert f"| {100 * interval.mean:.1f} ± {100 * interval.half:.1f} % (2 of 3) |" in rows["`a/seed*`"]
    assert "| (0 of 2) |" in rows["`b/seed*`"]
    assert "| 30.00% |" in rows["`c`"]
    assert "Seeds that are not finished are left out" in text


@pytest.mark.parametrize("again", ["other", "same"])
def test_a_run_continued_under_another_config_stands_alone(tmp_path, again):
    for seed in range(3):
        run = write_run(tmp_path / f"seed{seed}", seed=seed, launches=2)
        written = json.loads((run / "run.json").read_text())
        for number, launch in enumerate(written["launches"]):
            changed = seed == 1 and number == 1
            launch["resume"] = changed
            launch["config_fingerprint"] = again if changed else "same"
        (run / "run.json").write_text(json.dumps(written))
    records, _ = run_groups.read(run_groups.find([str(tmp_path)]))
    found = [[one.name for one in group.records] for group in run_groups.groups(records)]
    expected = [["seed0", "seed2"], ["seed1"]] if again == "other" else [["seed0", "seed1", "seed2"]]
    assert found == expected
    assert ["another config" in " ".join(one.warnings) for one in records] == [False, again == "other", False]
