"""Every report begins with an answer that follows from the rows, and with what was expected."""

import itertools
import math
import random
import re
from pathlib import Path

import pytest
from made_up_runs import EXPERIMENTS, STUDIES, paragraph
from matplotlib.figure import Figure

from jaxvision.analysis.crossing import Crossing
from jaxvision.analysis.statistics import Interval, t_interval
from jaxvision.commands import study, study_results


def by_arm(tags, key):
    """Accuracies of runs with few arms, as the papers found them."""
    few = {"shuffled": 0.1, "random": 0.3, "scratch": 0.35, "rotation": 0.4, "supervised": 0.6, "tuned": 0.5}
    few |= {"student": 0.52, "softmax": 0.5, "all": 0.55, "double": 0.351, "rates": 0.3, "head": 0.4, "last": 0.45}
    value = few.get(tags.get("arm") or tags.get("regime"), 0.35)
    fading = 0.1 * (tags.get("examples", 0) > 4_000) * (value == few["scratch"])
    return value + fading - 0.05 * ("stages.3" in key) + 0.05 * ("clip80" in key and key.endswith("top1"))


def of_views(tags, key):
    both = {"crop", "colour"} <= set(tags["ops"].split("+"))
    if "contrastive" in key:
        return 0.5 if "colour" in tags["ops"] else 0.8
    return 0.35 + 0.05 * both + 0.02 * tags["layers"] if tags["length"] else 0.3


def of_depth(tags, key):
    return {("plain", 20): 0.3, ("plain", 56): 0.5, ("residual", 20): 0.35, ("residual", 56): 0.25}[
        tags["kind"], tags["depth"]
    ]


def of_search(tags, key):
    best = {"random": 0.6, "grid": 0.5}[tags["search"]]
    return best - 0.02 * abs(math.log10(tags["optimizer.learning_rate"]) + 1)


def of_architecture(tags, key):
    gains = {"conv3": 0.06, "pixel": 0.03, "mean3": 0.01, "identity": 0.0}
    return 0.3 + sum(gains[tags[f"layer{i}"]] * (i + 1) / 2 for i in range(3))


def of_neighbours(tags, key):
    part, point = key[:5], re.search("knn(.+)/", key)[1]
    best = {"train": "1_l1", "fold1": "50_l2"}.get(part, "8_l1")
    worst = {"train": "12_l2", "fold1": "12_l2", "test_": "12_l2"}.get(part, "100_l2")
    return 0.3 + (0.2 + 0.1 * (part == "fold1")) * (point == best) - 0.2 * (point == worst)


# Study, preset, keys of results beyond those of STUDIES, what the paper found.
CASES = [
    ("architecture_search", "laptop", (), of_architecture),
    ("cross_validation", "laptop", (), of_neighbours),
    ("degradation", "laptop", ("train_loss",), of_depth),
    ("image_text", "laptop", (), by_arm),
    ("image_text", "cifar10", (), by_arm),
    ("image_text", "cifar10_prompts", (), by_arm),
    ("image_text", "ucm", (), by_arm),
    ("pretraining", "laptop", (), by_arm),
    ("random_search", "laptop", (), of_search),
    ("rotation", "cifar10", (), by_arm),
    ("rotation", "cifar10_task", ("rotation_top1",), by_arm),
    ("simclr", "cifar10_heads", ("contrastive_top1",), of_views),
    ("simclr", "laptop", ("contrastive_top1",), of_views),
    ("simclr", "cifar10_labels", (), by_arm),
    ("transfer", "fashion", (), by_arm),
    ("transfer", "fashion_long", (), by_arm),
]
SETTLED = dict(up=lambda value: value, down=lambda value: 0.57 - value)  # below chance and every bar, too


def rows_of(this, name, preset, more, level, scatter):
    """A row for each run, with `level` of its tags; `scatter` moves each value."""
    _, keys, _ = STUDIES[name]
    rows = []
    for one in this.runs(preset, "DIR") + study_results.published(this, preset):
        results = {key: scatter(level(one.tags, key)) for key in (*keys(this, one, preset), *more)}
        rows.append({"run": one.name, **one.tags, **results})
    return rows


@pytest.mark.parametrize(("name", "preset", "more", "level"), CASES, ids=lambda v: v if isinstance(v, str) else "")
def test_the_answer_follows_from_the_rows(name, preset, more, level, tmp_path, monkeypatch):
    monkeypatch.setattr(Figure, "savefig", lambda self, file, **_: file.write_bytes(b""))  # drawing takes seconds
    this, answers = study.load_study(str(EXPERIMENTS / name)), {}
    draw = random.Random(0).uniform
    scatters = {way: lambda value, moved=moved: moved(value) + draw(-0.002, 0.002) for way, moved in SETTLED.items()}
    if name == "architecture_search":
        monkeypatch.setattr(this, "REPEATS", 50)  # searches take seconds
    if name == "random_search":
        monkeypatch.setattr(this, "_shares", lambda rows: dict.fromkeys(this.SPACE, 1 / 3))  # takes seconds too
    for way, scatter in (scatters | {"noise": lambda value: draw(0.2, 0.8)}).items():
        (tmp_path / way).mkdir()
        report = this.analyse(rows_of(this, name, preset, more, level, scatter), tmp_path / way, preset)
        assert report.startswith("# ")
        answers[way] = paragraph("Answer", report)
        assert re.search(r"(arXiv \d{4}\.\d{4,5}|JMLR \d+)", paragraph("Expected", report))
        assert re.match(r"(None|\d+) of \d+ (is|are) met", paragraph("Criteria", report))
        places = [report.index(part) for part in ("**Answer.**", "**Expected.**", "**Criteria.**", "\n## ", "\n|")]
        assert places == sorted(places)
    check(answers)


def check(answers):
    for answer in answers.values():
        assert len(re.findall(r"[.] [A-Z]", answer)) == 1, f"two sentences: {answer}"
        assert len(re.findall(r"\d\.\d", answer)) >= 3, f"numbers: {answer}"
        assert "nan" not in answer
    assert "not settled by" in answers["noise"]
    assert "not settled" not in answers["up"]
    words = {way: re.sub(r"[\d.,± ]+", " ", answer) for way, answer in answers.items()}
    assert all(words[one] != words[other] for one, other in itertools.combinations(words, 2)), answers


def test_all_studies_are_here():
    assert {case[0] for case in CASES} | {"data_scaling", "own_parts/width"} == set(STUDIES)


def of_sizes(vit, n):
    return 0.2 + 0.1 * math.log10(n / 100) if vit else 0.5 + 0.02 * math.log10(n / 100)


@pytest.mark.parametrize("preset", ["laptop", "relations"])
def test_the_answer_on_data_scaling_follows_from_the_rows(preset):
    here = study.load_study("data_scaling").__file__
    p, answers = study.sibling(here, "presets").PRESETS[preset], {}
    draw = random.Random(0).uniform
    scatters = {way: lambda value, moved=moved: moved(value) + draw(-0.002, 0.002) for way, moved in SETTLED.items()}
    for way, scatter in (scatters | {"noise": lambda value: draw(0.2, 0.8)}).items():
        top1 = {
            arm: {n: [scatter(of_sizes(arm.startswith("ViT"), n)) for _ in p.seeds] for n in p.sizes} for arm in p.arms
        }
        measures = study.sibling(here, "criteria").measure(top1, p.pairs[0], {}, p.seeds)
        place = {"up": (3e3, 2e3, 4e3), "down": (math.inf,) * 3, "noise": (3e3, 0.0, math.inf)}[way]
        crossing = Crossing(measures.points, t_interval([0.1, 0.2]), Interval(*place, 3), Interval(*place, 3), 1e9)
        answers[way] = study.sibling(here, "answer").answer(top1, p, measures, crossing)
    if preset == "relations":
        assert "The ViT overtakes the ResNet at 3,000 images (95 % interval 2,000 to 4,000)" in answers["up"]
        answers["noise"] = answers["noise"].replace("is not settled.", "is not settled by 5 seeds.")
    check(answers)


FINISHED = sorted(path.parent for path in Path(EXPERIMENTS).glob("*/results/*/results.csv"))


@pytest.mark.slow
@pytest.mark.parametrize("folder", FINISHED, ids=lambda folder: f"{folder.parents[1].name}-{folder.name}")
def test_a_published_result_makes_its_report_again_with_the_numbers_of_its_page(folder, tmp_path):
    name = folder.parents[1].name
    report = study.run_study(name, tmp_path, preset=folder.name, source=folder)
    page = (folder.parents[1] / "README.md").read_text()
    assert paragraph("Answer", report) in page
    lines = [line for line in report.splitlines() if re.match(r"- .*\*\*(met|FAILED)\*\*", line)]
    assert [line for line in lines if line not in page] == []
    assert len(lines) >= 3
