"""Noise meets the criteria of a study about as often as their intervals allow, and not more often."""

import numpy as np
import pytest
from made_up_runs import EXPERIMENTS, STUDIES
from scipy import stats

from jaxvision.analysis.criteria import Verdict
from jaxvision.commands import study, study_results

NOMINAL = 0.025  # share of 95 % intervals that lie above the true value


def same_for_all(this, preset):
    """Every run has the same accuracy, apart from noise."""
    return lambda one, key: 0.4


def at_the_bar(this, preset):
    """All networks are alike, and recognise just as many rotations as the criterion asks for."""
    bar = study.sibling(this.__file__, "presets").PRESETS[preset].bar
    return lambda one, key: bar if key == "rotation_top1" else 0.4


def guesses(this, preset):
    """A model of images and texts that knows nothing, except names of colours."""
    analysis, p = study.sibling(this.__file__, "analysis"), study.sibling(this.__file__, "presets").PRESETS[preset]
    levels = dict.fromkeys(p.criteria.get("learns", ()), p.chance)
    levels |= dict.fromkeys(p.criteria.get("composes", ()), analysis.GUESSED_KIND)
    return lambda one, key: levels.get(key, 0.4)


def a_little_worse(this, preset):
    """Students lose against their teachers just what the criterion forgives."""
    return lambda one, key: 0.4 - this.labels.SLACK * (one.tags["arm"] == "student")


def a_little_longer(this, preset):
    """Twice the steps gain just what the criterion forgives."""
    return lambda one, key: 0.4 + this.long.SLACK * (one.tags["arm"] == "double")


# Study, preset, repetitions, keys that its criteria read beyond those of STUDIES, accuracies without a difference.
NOISE = [
    pytest.param("architecture_search", "laptop", 100, (), same_for_all, marks=pytest.mark.slow),  # searches take time
    ("cross_validation", "laptop", 100, (), same_for_all),
    ("data_scaling", "laptop", 100, (), same_for_all),
    ("degradation", "laptop", 1000, ("train_loss",), same_for_all),
    ("image_text", "laptop", 500, (), guesses),
    ("image_text", "cifar10", 500, (), guesses),
    ("image_text", "cifar10_prompts", 500, (), guesses),
    ("image_text", "ucm", 500, (), guesses),
    ("pretraining", "laptop", 1000, (), same_for_all),
    pytest.param("random_search", "laptop", 100, (), same_for_all, marks=pytest.mark.slow),  # importances take time
    ("rotation", "laptop", 1000, (), same_for_all),
    ("rotation", "cifar10_task", 1000, ("rotation_top1",), at_the_bar),
    ("simclr", "laptop", 1000, ("contrastive_top1", "effective_rank"), same_for_all),
    ("simclr", "cifar10_heads", 1000, (), same_for_all),
    ("simclr", "cifar10_labels", 1000, (), a_little_worse),
    ("transfer", "fashion", 1000, (), same_for_all),
    ("transfer", "fashion_long", 1000, (), a_little_longer),
]


def test_every_study_judges_its_criteria_by_intervals():
    tested = {getattr(case, "values", case)[0] for case in NOISE}
    for name in STUDIES:
        this = study.load_study(str(EXPERIMENTS / name))
        states = "criteria" in this.__doc__.lower()
        assert (name in tested) == states == hasattr(this, "criteria"), name


@pytest.mark.parametrize(
    ("name", "preset", "times", "more", "level"), NOISE, ids=lambda v: v if isinstance(v, str) else ""
)
def test_noise_meets_no_criterion_more_often_than_its_interval_allows(name, preset, times, more, level):
    this = study.load_study(str(EXPERIMENTS / name))
    mean, rng = level(this, preset), np.random.default_rng(0)
    keys = STUDIES[name][1]
    planned = this.runs(preset, "DIR") + study_results.published(this, preset)
    cells = [(one, key) for one in planned for key in (*keys(this, one, preset), *more)]
    means = np.array([mean(one, key) for one, key in cells])
    seeds = {tag: [one.tags.get(tag) for one, _ in cells] for tag in ("seed", "repeat")}
    met: dict[str, int] = {}
    for _ in range(times):
        of_seed = dict(zip(range(200), rng.normal(0, 0.02, 200)))  # what a seed does to all its runs
        shared = np.array([of_seed[s if s is not None else r] for s, r in zip(seeds["seed"], seeds["repeat"])])
        shared *= means == 0.4  # chance does not depend on the seed
        values = means + shared + rng.normal(0, 0.02, len(cells))
        rows: dict[str, dict] = {}
        for (one, key), value in zip(cells, values.tolist()):
            rows.setdefault(one.name, {"run": one.name, **one.tags})[key] = value
        for criterion, verdict in this.criteria(list(rows.values()), preset).items():
            assert isinstance(verdict, Verdict)
            met[criterion] = met.get(criterion, 0) + verdict.met
    most = stats.binom.ppf(0.9995, times, NOMINAL)
    assert {criterion: count for criterion, count in met.items() if count > most} == {}
    assert met, "it has criteria"
