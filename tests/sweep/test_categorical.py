"""Searches over listed values that learn: their rules, their place in the journal, and what they gain on tables."""

import functools

import numpy as np
import pytest

from jaxvision.analysis.statistics import t_interval
from jaxvision.errors import UserError
from jaxvision.sweep import choice, grid, searches, uniform, when
from jaxvision.sweep import space as spaces
from jaxvision.sweep.categorical import ageing_evolution, reinforce
from jaxvision.sweep.history import Ended
from jaxvision.sweep.tabulated import rehearse

SPECS = ["ageing_evolution(seed=3, population=4, sample=2)", "reinforce(seed=3, learning_rate=0.3)"]
SPACE = {
    "depth": choice(1, 2, 4),
    "norm": choice("none", "batch", (1, 2)),
    "momentum": when("norm", ("batch", (1, 2)), grid(0.9, 0.99)),
    "fixed": 7,
}


def value(point):
    return point["depth"] * (1.5 if point["norm"] == "batch" else 1.0) + point.get("momentum", 0.0)


# The landscape of the statistical claims: six choices of four values, each with an effect, each pair of neighbours
# with half of one. Every seed has a landscape of its own. Space, numbers of trials, seeds and criteria were written
# down before the first run with these seeds; the options of the searches are their defaults.
LANDSCAPE = {f"choice{i}": choice(0, 1, 2, 3) for i in range(6)}
SEEDS, TRIALS = range(100), 100


def landscape(seed):
    draws = np.random.default_rng([seed, 98])
    single, pairs = draws.normal(size=(6, 4)), draws.normal(scale=0.5, size=(6, 4, 4))

    def score(point):
        x = list(point.values())
        return float(sum(single[i, x[i]] + pairs[i, x[i], x[i - 1]] for i in range(6)))

    return score


@functools.cache
def found(spec, seed):
    """Scores of the trials of a search on the landscape of its seed."""
    score = landscape(seed)
    return [score(point) for point in rehearse(spec.format(seed), LANDSCAPE, score, TRIALS)]


def in_journal(folder, spec, trials, workers, space=SPACE, direction="maximize", restart=False):
    """Points of a sweep whose oldest run ends whenever a new one begins; the journal is opened again for each."""
    study, asked = searches.open_journal(folder / "journal.log", direction), []
    sign = 1 if direction == "maximize" else -1
    for number in range(trials):
        if restart:
            study = searches.open_journal(folder / "journal.log", direction)
        if number >= workers:
            oldest = study.get_trials(deepcopy=False)[number - workers]
            study.tell(oldest.number, sign * value(searches.point_of(oldest, space)))
        asked.append(searches.point_of(searches.ask(study, searches.make_search(spec), space), space))
    return asked


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("spec", SPECS)
def test_a_sweep_chooses_what_the_rehearsal_says(spec, workers, tmp_path):
    assert in_journal(tmp_path, spec, 14, workers) == rehearse(spec, SPACE, value, 14, workers)


@pytest.mark.parametrize("spec", SPECS)
def test_the_journal_is_the_whole_state(spec, tmp_path):
    assert in_journal(tmp_path, spec, 14, 2, restart=True) == rehearse(spec, SPACE, value, 14, 2)


@pytest.mark.parametrize("spec", SPECS)
def test_minimizing_is_maximizing_the_negative(spec, tmp_path):
    assert in_journal(tmp_path, spec, 14, 1, direction="minimize") == rehearse(spec, SPACE, value, 14)


@pytest.mark.parametrize("spec", SPECS)
def test_points_lie_in_the_space(spec):
    every = [repr(point) for point in spaces.points(SPACE)]
    points = rehearse(spec, SPACE, value, 40)
    assert {repr(point) for point in points} <= set(every)
    assert len({repr(point) for point in points}) >= 5  # both settle on good ones


def test_a_search_of_optuna_cannot_be_rehearsed():
    with pytest.raises(UserError, match="is Optuna's"):
        rehearse("tpe", SPACE, value, 3)
    with pytest.raises(UserError, match=r"goes through listed values, but 'rate' is uniform\(0.0, 1.0\): list its"):
        rehearse("reinforce", {"rate": uniform(0, 1)}, value, 3)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("ageing_evolution(population=0)", "population=0.*at least 1"),
        ("ageing_evolution(sample=0)", "sample=0.*at least 1"),
        ("reinforce(learning_rate=0.0)", "learning_rate=0.0.*above 0"),
        ("reinforce(decay=1.0)", r"decay=1.0.*\[0, 1\)"),
    ],
)
def test_options_out_of_range_are_refused(spec, message):
    with pytest.raises(UserError, match=message):
        searches.make_search(spec)


# Ageing evolution


def ended(scores):
    """A history of points of LANDSCAPE, far from each other, with these scores."""
    return [Ended(dict.fromkeys(LANDSCAPE, i % 4), score, 0) for i, score in enumerate(scores)]


def changed(a, b):
    return [key for key in a if a[key] != b[key]]


def test_the_oldest_is_removed_not_the_worst():
    history = ended([0.9, 0.1, 0.5, 0.3])
    assert [member.score for member in ageing_evolution.alive(history, 3)] == [0.1, 0.5, 0.3]
    learned = searches.make_search("ageing_evolution(population=3, sample=64)").learned
    for number in range(3, 30):  # so many are drawn that the best of the living is among them
        child = learned(LANDSCAPE, history, number)
        assert len(changed(child, history[2].point)) == 1


def test_the_parent_is_the_best_of_the_drawn_and_chance_decides_who_is_drawn():
    learned = searches.make_search("ageing_evolution(population=4, sample=2)").learned
    history = ended([0.9, 0.1, 0.5, 0.3])
    parents = []
    for number in range(4, 2004):
        child = learned(LANDSCAPE, history, number)
        [parent] = [trial.score for trial in history if len(changed(child, trial.point)) == 1]
        parents.append(parent)
    # Two draws with replacement: the best of four is the better one in 7 of 16 cases, the next in 5, 3 and 1.
    shares = [np.mean(np.equal(parents, score)) for score in (0.9, 0.5, 0.3, 0.1)]
    assert shares == pytest.approx([7 / 16, 5 / 16, 3 / 16, 1 / 16], abs=0.035)  # three standard deviations


def test_every_mutation_is_as_likely_as_every_other_of_its_choice():
    draws, parent = np.random.default_rng(0), dict.fromkeys(LANDSCAPE, 0)
    children = [ageing_evolution.mutate(LANDSCAPE, parent, draws) for _ in range(9000)]
    counts = [sum(child[key] == v for child in children) for key in LANDSCAPE for v in (1, 2, 3)]
    assert sum(counts) == 9000
    assert np.allclose(counts, 500, atol=80)  # 3.7 standard deviations


def test_a_mutation_of_a_condition_takes_and_drops_what_hangs_on_it():
    draws = np.random.default_rng(0)
    plain = [ageing_evolution.mutate(SPACE, {"depth": 1, "norm": "none"}, draws) for _ in range(60)]
    assert {point.get("momentum") for point in plain if point["norm"] != "none"} == {0.9, 0.99}
    parent = {"depth": 1, "norm": "batch", "momentum": 0.9}
    children = [ageing_evolution.mutate(SPACE, parent, draws) for _ in range(60)]
    assert all(("momentum" in point) == (point["norm"] != "none") for point in [*plain, *children])
    assert ageing_evolution.mutate({"a": choice(1)}, {"a": 1}, draws) == {"a": 1}


def test_failed_trials_do_not_enter_the_population():
    learned = searches.make_search("ageing_evolution(population=2, sample=1)").learned
    failed = ended([None, None, None])
    assert learned(LANDSCAPE, failed, 5) == searches.make_search("random").point(LANDSCAPE, 5)
    assert [m.score for m in ageing_evolution.alive(ended([0.1, None, 0.2, None]), 2)] == [0.1, 0.2]


def test_the_first_trials_are_those_of_random_search():
    first = rehearse("ageing_evolution(seed=5, population=8)", LANDSCAPE, landscape(5), 8)
    assert first == rehearse("random(seed=5)", LANDSCAPE, landscape(5), 8)


def test_ageing_evolution_finds_better_points_than_random_search_with_as_many_trials():
    """Criterion: the 95 % t-interval of the best of 100 trials, evolution minus random, over 100 seeds is above 0."""
    gains = [max(found("ageing_evolution(seed={})", s)) - max(found("random(seed={})", s)) for s in SEEDS]
    assert t_interval(gains).low > 0


# REINFORCE


def some_logits(seed):
    draws = np.random.default_rng(seed)
    return {key: draws.normal(size=len(spaces.samples(d))) for key, d in spaces.searched(SPACE).items()}


def expected_score(logits):
    """The mean score of the policy, over all points of the space."""
    chances = {repr(p): np.exp(reinforce.log_probability(SPACE, logits, p)) for p in spaces.points(SPACE)}
    assert sum(chances.values()) == pytest.approx(1)
    return sum(chances[repr(p)] * value(p) for p in spaces.points(SPACE))


@pytest.mark.parametrize("baseline", [0.0, 3.0])
def test_the_gradient_is_unbiased_whatever_the_baseline(baseline):
    """Its mean over all points of the space is the gradient of the mean score, by finite differences."""
    logits = some_logits(0)
    mean = {key: np.zeros_like(x) for key, x in logits.items()}
    for point in spaces.points(SPACE):
        chance = np.exp(reinforce.log_probability(SPACE, logits, point))
        for key, g in reinforce.policy_gradient(SPACE, logits, point, value(point) - baseline).items():
            mean[key] += chance * g
    for key, x in logits.items():
        for i in range(len(x)):
            ends = [expected_score({**logits, key: x + step * np.eye(len(x))[i]}) for step in (1e-5, -1e-5)]
            assert mean[key][i] == pytest.approx((ends[0] - ends[1]) / 2e-5, abs=1e-8)


def test_the_sampled_gradient_has_the_mean_of_the_enumerated_one():
    """Points are drawn by the search itself, from the policy after some updates."""
    history = [Ended({"depth": 4, "norm": "batch", "momentum": 0.9}, score, i) for i, score in enumerate([0.0, 1, 1])]
    logits = reinforce.policies(SPACE, history, 0.3, 0.9)[-1].logits
    learned = searches.make_search("reinforce(learning_rate=0.3)").learned
    points = [repr(learned(SPACE, history, number)) for number in range(4000)]
    for point in spaces.points(SPACE):
        chance = np.exp(reinforce.log_probability(SPACE, logits, point))
        assert points.count(repr(point)) / 4000 == pytest.approx(chance, abs=4 * np.sqrt(chance / 4000))


def test_a_baseline_is_the_moving_average_of_earlier_scores_and_adam_takes_the_step():
    """By hand: the first score only sets the baseline, the second moves each logit by the learning rate."""
    space = {"a": choice("x", "y")}
    history = [Ended({"a": "x"}, 5.0, 0), Ended({"a": "y"}, 7.0, 1), Ended({"a": "x"}, 5.2, 2)]
    logits = [after.logits["a"] for after in reinforce.policies(space, history, 0.1, 0.9)]
    assert np.array_equal(logits[1], [0, 0])
    assert logits[2] == pytest.approx([-0.1, 0.1])  # whatever the size of the gradient
    # The baseline is 0.9 * 5 + 0.1 * 7 = 5.2 now, so the gradient of the third score is 0. The moments of Adam are
    # 0.9 * 0.1 g / (1 - 0.9^2) and 0.999 * 0.001 g^2 / (1 - 0.999^2).
    step = 0.1 * (0.09 / 0.19) / np.sqrt(0.000999 / 0.001999)
    assert logits[3] - logits[2] == pytest.approx([-step, step])


def test_the_gradient_of_a_late_trial_is_taken_where_it_was_drawn():
    space = {"a": choice("x", "y")}
    early = [Ended({"a": "x"}, 0.0, 0), Ended({"a": "y"}, 1.0, 1), Ended({"a": "y"}, 1.0, 2)]
    late = [*early[:2], early[2]._replace(known=0)]
    moved = [reinforce.policies(space, history, 0.5, 0.9)[-1].logits["a"][1] for history in (early, late)]
    assert moved[1] > moved[0]  # at the first policy, "y" was less likely, so its gradient is larger


def test_a_failed_trial_scores_as_the_worst_so_far():
    point = {"depth": 1, "norm": "none"}
    good = {"depth": 4, "norm": "batch", "momentum": 0.9}
    history = [Ended(point, None, 0), Ended(good, 0.5, 1), Ended(good, 0.9, 2), Ended(point, None, 3)]
    as_worst = [Ended(good, 0.5, 1), Ended(good, 0.9, 2), Ended(point, 0.5, 3)]
    after = [policy.logits for policy in reinforce.policies(SPACE, history, 0.1, 0.9)]
    assert all(not x.any() for x in after[1].values())  # nothing is known yet
    again = reinforce.policies(SPACE, [trial._replace(known=trial.known - 1) for trial in as_worst], 0.1, 0.9)[-1]
    assert all(np.array_equal(after[-1][key], again.logits[key]) for key in after[-1])


def test_the_best_point_gets_more_likely_and_scores_rise():
    """Criteria: over 100 seeds, the 95 % t-intervals of two means are above 0.

    They are the change of log p(best point of all 4,096) in 100 trials, and the mean score of the last 25 trials
    minus that of random search.
    """
    every = list(spaces.points(LANDSCAPE))
    likelier, gains = [], []
    for seed in SEEDS:
        score = landscape(seed)
        points = rehearse(f"reinforce(seed={seed})", LANDSCAPE, score, TRIALS)
        history = [Ended(point, score(point), i) for i, point in enumerate(points)]
        first, *_, last = reinforce.policies(LANDSCAPE, history, 0.1, 0.9)
        best = max(every, key=score)
        chances = [reinforce.log_probability(LANDSCAPE, p.logits, best) for p in (first, last)]
        likelier.append(chances[1] - chances[0])
        gains.append(np.mean([score(p) for p in points[-25:]]) - np.mean(found("random(seed={})", seed)[-25:]))
    assert t_interval(likelier).low > 0
    assert t_interval(gains).low > 0
