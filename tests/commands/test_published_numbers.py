"""The preset `paper` of experiments/data_scaling: published numbers, which need no run."""

import csv
import json
import re
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from jaxvision.analysis import plots
from jaxvision.commands import study
from jaxvision.errors import UserError

ROOT = Path(__file__).parents[2]
KEYS = {"ImageNet": "imagenet", "CIFAR-10": "cifar10", "Pets": "pets", "exaFLOPs": "exaflops", "epochs": "epochs"}


@pytest.fixture(scope="module")
def published():
    return study.sibling(study.load_study("data_scaling").__file__, "published")


@pytest.fixture(scope="module")
def lines(published):
    with published.TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    out = tmp_path_factory.mktemp("paper") / "out"
    return out, study.run_study("data_scaling", out, preset="paper")


def page_table(after):
    """The cells of the first table of docs/reproducing.md after some words: the head, then the lines."""
    page = (ROOT / "docs" / "reproducing.md").read_text()
    table = re.search(r"^\|.*?(?=\n\n)", page[page.index(after) :], re.DOTALL | re.MULTILINE).group()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    return rows[0], rows[2:]


def test_the_page_on_reproducing_has_the_same_table_5(lines):
    head, rows = page_table("Table 5, top-1")
    assert len(rows) == 3
    for on, *cells in rows:
        for model, cell in zip(head[1:], cells):
            mine = [one for one in lines if one["source"].endswith("table 5")]
            mine = [one for one in mine if (one["model"], one["pretrained_on"]) == (model, on)]
            assert [f"{one['imagenet']}; {one['cifar10']}" for one in mine] == ([cell] if cell else []), (on, model)


def test_the_page_on_reproducing_has_the_same_table_6(lines):
    head, rows = page_table("Table 6, pre-trained")
    assert len(rows) >= 9
    for model, *cells in rows:
        wanted = {KEYS[name]: cell for name, cell in zip(head[1:], cells)}
        mine = [one for one in lines if (one["model"], one["epochs"]) == (model, wanted["epochs"])]
        assert [{key: one[key] for key in wanted} for one in mine] == [wanted], model


def test_the_table_has_the_models_of_the_paper(lines, published):
    sixth = [one for one in lines if one["source"] == "arXiv 2010.11929v2 table 6"]
    counts = {family: sum(one["family"] == family for one in sixth) for family in published.FAMILIES}
    assert counts == {"ResNet": 7, "ViT": 6, "hybrid": 5}  # sec. 4.4
    assert len(lines) == len(sixth) + 14
    for one in lines:
        assert all(70 < float(one[key]) < 100 for key in published.SETS)


def test_models_that_are_in_both_tables_have_the_same_numbers(lines, published):
    """All but ViT-H/14, which the paper gives differently in its two tables."""
    numbers = lambda one: [one[key] for key in published.SETS]
    fifth = {one["model"]: numbers(one) for one in lines if not one["epochs"] and one["pretrained_on"] == "JFT-300M"}
    sixth = {(one["model"], one["epochs"]): numbers(one) for one in lines if one["epochs"]}
    for model, epochs in (("ViT-B/32", "7"), ("ViT-B/16", "7"), ("ViT-L/32", "7"), ("ViT-L/16", "14")):
        assert fifth[model] == sixth[model, epochs]


def test_the_preset_goes_through_the_command(done, lines):
    out, report = done
    assert not (out / "runs").exists()
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert [(row["model"], row["exaflops"]) for row in rows] == [(one["model"], one["exaflops"]) for one in lines]
    assert float(rows[0]["imagenet/top1"]) == pytest.approx(float(lines[0]["imagenet"]) / 100)
    assert "Nothing was trained" in report
    assert (out / "report.html").read_text().count("data:image/png;base64,") == report.count("figures/") == 3
    assert {path.suffix for path in (out / "figures").iterdir()} == {".png", ".svg"}
    summary = json.loads((out / "summary.json").read_text())
    mean, low, high, models = summary["ratios"]["average"]["ResNets / ViTs"]["mean"]
    assert models == 13
    assert low < mean < high
    assert set(summary["criteria"]) == set(study.sibling(study.load_study("data_scaling").__file__, "published").CLAIMS)
    assert summary["criteria"]["less"] == (low > 1)
    assert summary["criteria"]["two_to_four"] == (low >= 2 and high <= 4)
    assert f"{mean:.2f} ({low:.2f} to {high:.2f})" in report


@pytest.mark.slow  # pytest -m slow tests/commands/test_published_numbers.py
def test_a_second_call_gives_the_same_bytes(done):
    out, report = done
    names = ("results.csv", "results.parquet", "report.html", "summary.json", "figures/compute.svg")
    before = [(out / name).read_bytes() for name in names]
    assert study.run_study("data_scaling", out, preset="paper", launcher="local") == report
    assert before == [(out / name).read_bytes() for name in names]


def test_the_report_is_made_again_from_the_rows(done, tmp_path):
    out, report = done
    assert study.run_study("data_scaling", tmp_path / "again", preset="paper", source=out / "results.csv") == report
    assert (tmp_path / "again" / "report.html").read_bytes() == (out / "report.html").read_bytes()
    text = (out / "results.csv").read_text()
    (tmp_path / "results.csv").write_text(text.replace("0.7754", "0.7854"))
    with pytest.raises(UserError, match="the rows are of another version"):
        study.run_study("data_scaling", tmp_path / "other", preset="paper", source=tmp_path / "results.csv")


def test_every_family_has_its_colour(done):
    picture = matplotlib.image.imread(done[0] / "figures" / "compute.png")[..., :3]
    for colour in plots.COLOURS[:3]:
        wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        assert (np.abs(picture - wanted).max(-1) < 0.05).sum() > 300, colour


def test_a_dry_run_says_that_nothing_runs(tmp_path, capsys):
    assert study.run_study("data_scaling", tmp_path / "out", preset="paper", dry_run=True) == ""
    assert "no runs; 32 results are published elsewhere" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    with pytest.raises(UserError, match="unknown launcher"):
        study.run_study("data_scaling", tmp_path / "out", preset="paper", launcher="locl")
    with pytest.raises(UserError, match="unknown run of the preset 'paper'"):
        study.load_study("data_scaling").get_config("paper/fixed/ViT-64/seed0/2000")


@pytest.mark.parametrize(("times", "less", "claimed"), [(3.0, True, True), (1.0, False, False), (9.0, True, False)])
def test_verdicts_on_numbers_of_a_known_ratio(published, times, less, claimed):
    needed = {"ResNet": times, "ViT": 1.0, "hybrid": 0.8}
    wave = lambda row: 1 + 0.003 * np.sin(7 * row["exaflops"])  # a model is not exactly on the curve
    rows = [
        row
        | {
            f"{key}/top1": 1 - 0.4 * (row["exaflops"] / needed[row["family"]]) ** -0.15 * wave(row)
            for key in published.SETS
        }
        if row["table"] == 6
        else row
        for row in published.rows()
    ]
    average = published.compare(rows, published.FIVE, resamples=300)
    verdicts = published.judge(average, published.larger_models(rows))
    assert (verdicts["less"].met, verdicts["two_to_four"].met) == (less, claimed), verdicts
    assert not verdicts["hybrid_fades"].met, "the ratio to hybrids is the same at every error"
    assert ("lies apart from 2 to 4" in verdicts["two_to_four"].finding) == (times != 3.0)
