"""What the page of several runs says of their results, for runs that were written by hand."""

import json

import pytest
from written_runs import write_run

from jaxvision.analysis import run_plots
from jaxvision.commands import plot
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
