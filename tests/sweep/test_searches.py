"""Searches: which points they choose, whatever the order in which trials end and however often a controller dies."""

import pytest

from jaxvision.errors import UserError
from jaxvision.sweep import choice, grid, integers, log_uniform, searches, uniform, when

SPACE = {
    "a": log_uniform(1e-4, 1),
    "b": choice("x", (1, 2)),
    "c": when("b", "x", integers(1, 9)),
    "d": uniform(0, 1),
    "fixed": 7,
}
GRID = {"a": grid(1, 2), "b": choice("x", (1, 2)), "c": when("b", "x", grid(5, 6))}
SPECS = ["grid", "random(seed=1)", "qmc(seed=1)", "tpe(seed=1, startup=2)", "cmaes(seed=1)"]
LISTED = ["ageing_evolution(population=2, sample=2)", "reinforce"]  # see also test_categorical.py


def ask(folder, spec, order, count=6):
    """Points of `count` trials, where after each one the next number of `order` is told."""
    if spec.startswith("cmaes"):
        pytest.importorskip("cmaes")
    pytest.importorskip("optuna")
    space = GRID if searches.make_search(spec).listed else SPACE
    study = searches.open_journal(folder / "journal.log", "maximize")
    trials, points = [], []
    for _ in range(count):
        trials.append(searches.ask(study, searches.make_search(spec), space))
        points.append(searches.point_of(trials[-1], space))
        for number in order.pop(0) if order else ():
            study.tell(trials[number], float(points[number]["a"]))
    return points


@pytest.mark.parametrize("spec", SPECS[:3])
def test_a_search_that_does_not_learn_chooses_the_same_points_in_any_order_of_ends(spec, tmp_path):
    (tmp_path / "one").mkdir(), (tmp_path / "two").mkdir()
    in_turn = ask(tmp_path / "one", spec, [[i] for i in range(6)])
    at_last = ask(tmp_path / "two", spec, [[], [], [2], [0, 3]])
    assert in_turn == at_last
    space = GRID if spec == "grid" else SPACE
    assert in_turn == [searches.make_search(spec).point(space, number) for number in range(6)]


@pytest.mark.parametrize("spec", SPECS[1:])
def test_points_lie_in_the_space_and_differ(spec, tmp_path):
    points = ask(tmp_path, spec, [[i] for i in range(8)], count=8)
    for point in points:
        assert 1e-4 <= point["a"] <= 1
        assert point["b"] in ("x", (1, 2))
        assert 0 <= point["d"] <= 1
        assert (point.get("c") in range(1, 10)) == (point["b"] == "x")
    assert len({repr(point) for point in points}) == 8


@pytest.mark.parametrize("spec", [*SPECS, *LISTED])
def test_a_trial_that_was_begun_is_completed_with_what_stands_there(spec, tmp_path):
    """A controller that dies after any line of the journal leaves the point, or a part of it, for the next one."""
    points = ask(tmp_path, spec, [])
    lines = (tmp_path / "journal.log").read_text().splitlines(keepends=True)
    space = GRID if searches.make_search(spec).listed else SPACE
    for kept in range(len(lines) - 4, len(lines)):
        folder = tmp_path / str(kept)
        folder.mkdir()
        (folder / "journal.log").write_text("".join(lines[:kept]))
        study = searches.open_journal(folder / "journal.log", "maximize")
        last = study.get_trials(deepcopy=False)[-1]
        there = dict(last.params)
        trial = searches.ask(study, searches.make_search(spec), space, last)
        assert there.items() <= trial.params.items()
        if searches.make_search(spec).sampler is None:
            assert searches.point_of(trial, space) == points[last.number]


@pytest.mark.parametrize("spec", ["tpe(startup=2)", "cmaes"])
def test_a_controller_that_starts_again_repeats_no_point(spec, tmp_path):
    points = ask(tmp_path, spec, [], count=3) + ask(tmp_path, spec, [], count=3)
    assert len({repr(point) for point in points}) == 6


def test_tpe_learns(tmp_path):
    study = searches.open_journal(tmp_path / "journal.log", "maximize")
    space = {"x": uniform(0, 1)}
    values = []
    for _ in range(40):
        trial = searches.ask(study, searches.make_search("tpe(startup=8)"), space)
        values.append(searches.point_of(trial, space)["x"])
        study.tell(trial, -abs(values[-1] - 0.8))
    near = [sum(abs(x - 0.8) < 0.1 for x in part) for part in (values[:16], values[-16:])]
    assert near[1] > 2 * near[0]


def test_quasi_random_points_are_spread_more_evenly_than_random_ones():
    """Of 16 points of a Sobol sequence one lies in each sixteenth of each axis."""
    point = searches.make_search("qmc").point
    cells = sorted(int(point({"a": uniform(0, 1), "b": uniform(0, 1)}, n)["b"] * 16) for n in range(16))
    assert cells == list(range(16))


def test_the_last_line_that_was_cut_off_by_a_crash_is_dropped(tmp_path):
    points = ask(tmp_path, "random", [])
    with (tmp_path / "journal.log").open("a") as file:
        file.write('{"op_code": 4, "worker')
    assert len(ask(tmp_path, "random", [], count=1)) == 1
    study = searches.open_journal(tmp_path / "journal.log", "maximize")
    assert [searches.point_of(t, SPACE) for t in study.get_trials()[:6]] == points
    assert len(study.get_trials()) == 7


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tpee", "did you mean 'tpe'"),
        ("random(sed=1)", "Usage: random"),
        ("random|grid", "one search"),
    ],
)
def test_a_search_with_a_mistake_is_refused(spec, message):
    with pytest.raises(UserError, match=message):
        searches.make_search(spec)


def test_a_gaussian_process_wants_torch(monkeypatch):
    monkeypatch.setattr(searches.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="needs torch"):
        searches.make_search("gp")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("ashaa", "did you mean 'asha'"),
        ("asha(start=0)", "a share of the run"),
        ("hyperband(factor=1)", "at least 2"),
        ("median(warmup=1.5)", "a share of the run"),
    ],
)
def test_pruning_with_a_mistake_is_refused(spec, message):
    with pytest.raises(UserError, match=message):
        searches.make_pruning(spec)


def test_pruners_count_in_steps_of_the_run():
    asha = searches.make_pruning("asha(start=0.1, factor=3)")(1000)
    assert (asha._min_resource, asha._reduction_factor) == (100, 3)
    assert searches.make_pruning("median(startup=2, warmup=0.25)")(1000)._n_warmup_steps == 250
    assert searches.make_pruning("hyperband(start=0.2)")(50)._max_resource == 50
