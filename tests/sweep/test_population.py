"""A population against the ordinary runs of its members."""

import json
from functools import partial

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from jaxvision import experiment as experiments
from jaxvision.commands import evaluate, train
from jaxvision.commands.restore import restore
from jaxvision.config import override
from jaxvision.errors import UserError
from jaxvision.sweep import population
from jaxvision.sweep.population import Member
from jaxvision.train import divergence, throughput
from jaxvision.train.metrics import read
from jaxvision.train.watch import Preempted

# XLA takes sums in another order in a program of several members, and seven steps enlarge the difference.
SAME = dict(rtol=1e-3, atol=1e-5)
SPEED = {"examples_per_second", "data_wait"}

MODELS = {
    "vit": dict(name="vit", variant="Ti/8", width=16, depth=1, num_heads=2, dropout=0.0),
    "resnet": dict(name="resnet", variant="8", width=0.25),
}
CHANGES = {  # with 0 beside other rates
    "vit": (
        {"seed": 3, "model.dropout": 0.1, "augment": "mixup(0.2)|normalize(0.5, 0.5)"},
        {"optimizer.learning_rate": 0.03, "optimizer.weight_decay": 0.0, "augment": "mixup(0.8)|normalize(0.5, 0.5)"},
        {"task.label_smoothing": 0.2, "optimizer.clip_norm": 0.1, "augment": "mixup(0.0)|normalize(0.5, 0.5)"},
    ),
    "resnet": ({"seed": 3}, {"optimizer.learning_rate": 0.03, "optimizer.weight_decay": 0.0}),
}
DIVERGING = {"optimizer.learning_rate": 1e38, "augment": "mixup(0.0)|normalize(0.5, 0.5)"}


@pytest.fixture(scope="module", autouse=True)
def data_cache(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("JAXVISION_DATA", str(tmp_path_factory.mktemp("data")))
    yield
    patch.undo()


def make_config(model="vit", **changes):
    c = ConfigDict()
    c.seed = 0
    sizes = dict(image_size=32, train=80, validation=24, test=8)
    c.data = dict(name="shapes", options=sizes, split="train", host="decode|resize(16)", batch_size=16)
    c.augment = "normalize(0.5, 0.5)"
    c.model = MODELS[model]
    c.task = dict(name="supervised", label_smoothing=0.0)
    c.optimizer = dict(name="sgd", learning_rate=0.1, weight_decay=1e-3, clip_norm=1.0, schedule="cosine")
    c.train = dict(total="7 steps", log_every="2 steps", checkpoint_every="3 steps", ema=0.9, max_skipped=0)
    c.evals = dict(val=dict(name="classify", split="validation", every="4 steps"))
    return override(c, changes)


def members(folder, changes, model="vit", **common):
    configs = [make_config(model, **{**common, **change}) for change in changes]
    return [Member(config, folder / str(i)) for i, config in enumerate(configs)]


@pytest.fixture(scope="module")
def singles(tmp_path_factory):
    """`singles(model)`: the members trained by themselves, once."""
    done = {}

    def make(model):
        if model not in done:
            folder = tmp_path_factory.mktemp(model)
            done[model] = [
                (m.workdir, train.run_train(m.config, m.workdir, quiet=True))
                for m in members(folder, CHANGES[model], model)
            ]
        return done[model]

    return make


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """`trained(at_once)`: the ViTs and one that diverges as a population, once: folder, members, results."""
    done = {}

    def make(at_once):
        if at_once not in done:
            folder = tmp_path_factory.mktemp("population")
            of_all = members(folder / "members", [*CHANGES["vit"], DIVERGING])
            done[at_once] = folder, of_all, population.train(of_all, folder / "out", at_once=at_once, quiet=True)
        return done[at_once]

    return make


def assert_same_state(a, b, **tolerance):
    (_, first, _), (_, second, _) = restore(a), restore(b)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), first, second)


def assert_same_run(a, b):
    assert_same_state(a, b, **SAME)
    for one, other in zip(read(a / "metrics.jsonl"), read(b / "metrics.jsonl"), strict=True):
        assert one.keys() == other.keys()
        kept = one.keys() - SPEED
        np.testing.assert_allclose([one[k] for k in kept], [other[k] for k in kept], **SAME)


# pytest -m slow tests/sweep/test_population.py
@pytest.mark.parametrize("at_once", [pytest.param(True, marks=pytest.mark.slow), False])
def test_each_member_is_the_run_that_it_would_be_alone(at_once, singles, trained):
    _, of_all, results = trained(at_once)
    for member, (workdir, expected), result in zip(of_all, singles("vit"), results):
        assert_same_run(member.workdir, workdir)
        assert result == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("at_once", [True, False])
def test_members_with_batch_norm_are_the_runs_that_they_would_be_alone(at_once, singles, tmp_path):
    of_all = members(tmp_path, CHANGES["resnet"], "resnet")
    population.train(of_all, tmp_path / "out", at_once=at_once, quiet=True)
    for member, (workdir, _) in zip(of_all, singles("resnet"), strict=True):
        assert_same_run(member.workdir, workdir)


def test_a_member_leaves_what_a_run_leaves(singles, trained):
    folder, of_all, results = trained(True)
    alone, _ = singles("vit")[1]
    mine = of_all[1].workdir
    assert sorted(p.name for p in mine.iterdir()) == sorted(p.name for p in alone.iterdir())
    assert (mine / "config.json").read_text() == (alone / "config.json").read_text()
    assert json.loads((mine / "results.json").read_text())["results"] == results[1]
    assert json.loads((mine / "run.json").read_text())["launches"][0]["start_step"] == 0
    assert evaluate.run_evaluate(mine) == pytest.approx(results[1], rel=1e-5)
    assert not any((folder / "out").iterdir())  # checkpoints of the program are gone


@pytest.mark.parametrize("at_once", [True, False])
def test_a_member_that_diverges_is_frozen_and_reported(at_once, trained):
    _, of_all, results = trained(at_once)
    assert [result is None for result in results] == [False, False, False, True]
    lost = of_all[3].workdir
    failed = json.loads((lost / "failed.json").read_text())
    assert failed["error"].startswith(f"the loss, gradient or update of step {failed['step']} is not finite")
    assert divergence.tells(failed["error"])
    assert 1 < failed["step"] <= 4
    assert all(line["step"] < failed["step"] for line in read(lost / "metrics.jsonl"))
    assert not (lost / "results.json").exists()
    assert not (lost / "checkpoints").exists()


@pytest.mark.slow
def test_members_spread_over_devices_equal_those_on_one(trained, tmp_path, monkeypatch):
    layout = population._layout
    assert layout(3, jax.devices())[0].size == 2  # so one of the four places is filled up
    monkeypatch.setattr(population, "_layout", lambda count, devices: layout(count, devices[:1]))
    of_all = members(tmp_path, CHANGES["vit"])
    population.train(of_all, tmp_path / "out", at_once=True, quiet=True)
    for one, other in zip(of_all, trained(True)[1]):
        assert_same_run(one.workdir, other.workdir)


@pytest.mark.parametrize(("count", "used", "size"), [(1, 1, 1), (4, 4, 4), (6, 4, 8), (17, 8, 24)])
def test_members_fill_the_devices(count, used, size):
    mesh, padded = population._layout(count, jax.devices())
    assert (mesh.size, padded) == (used, size)


def test_the_share_of_the_peak_is_logged_where_the_mesh_of_the_config_does_not_fit_the_members(tmp_path, monkeypatch):
    """Here a batch of four, which eight devices split by their tensor axis only."""
    for module in (population, throughput):
        monkeypatch.setattr(module, "peak_flops", lambda: 1e12)
    mesh = {"mesh": dict(data=1, tensor=jax.device_count()), "data.batch_size": 4}
    (member,) = members(tmp_path, [{}], **mesh)
    population.train([member], tmp_path / "out", quiet=True)
    assert 0 < read(member.workdir / "metrics.jsonl")[0]["mfu"] < 1


def test_stopped_and_continued_equals_unbroken_bit_for_bit(trained, tmp_path, monkeypatch):
    _, unbroken, expected = trained(False)
    broken = members(tmp_path, [*CHANGES["vit"], DIVERGING])
    with monkeypatch.context() as patch:
        patch.setattr(population.loop, "Loop", partial(population.loop.Loop, stop_after=5))
        with pytest.raises(Preempted):
            population.train(broken, tmp_path / "out", quiet=True)
    assert not (broken[0].workdir / "results.json").exists()
    assert population.train(broken, tmp_path / "out", quiet=True) == expected
    for one, other in zip(broken[:3], unbroken[:3]):
        assert_same_state(one.workdir, other.workdir, rtol=0, atol=0)
        steps = [line["step"] for line in read(one.workdir / "metrics.jsonl")]
        assert steps == [2, 4, 4, 6, 7, 7]
        of_both = [read(run.workdir / "metrics.jsonl") for run in (one, other)]
        without_speed = [[{k: v for k, v in line.items() if k not in SPEED} for line in lines] for lines in of_both]
        assert without_speed[0] == without_speed[1]
        starts = [launch["start_step"] for launch in json.loads((one.workdir / "run.json").read_text())["launches"]]
        assert starts == [0, 5]
    assert (broken[3].workdir / "failed.json").read_text() == (unbroken[3].workdir / "failed.json").read_text()


def test_a_population_of_which_nothing_is_left_ends(tmp_path):
    of_all = members(tmp_path, [DIVERGING], **{"train.total": "100_000 steps", "evals": {}})
    assert population.train(of_all, tmp_path / "out", quiet=True) == [None]
    assert json.loads((of_all[0].workdir / "failed.json").read_text())["step"] < 10


def test_members_start_from_given_weights(trained, tmp_path):
    weights = trained(False)[1][0].workdir
    changes = [{"seed": seed, "optimizer.learning_rate": 0.0} for seed in (5, 6)]
    of_all = members(tmp_path, changes, **{"train.total": "1 steps", "evals": {}})
    for member in of_all:
        with member.config.unlocked():
            member.config.init = dict(weights=str(weights))
    population.train(of_all, tmp_path / "out", quiet=True)
    (_, source, _), *restored = (restore(w) for w in (weights, of_all[0].workdir, of_all[1].workdir))
    for _, state, _ in restored:
        jax.tree.map(np.testing.assert_array_equal, state.params, source.best_variables["params"])


@pytest.mark.parametrize("resident", ["always", "never"])
def test_a_batch_holds_the_rows_of_each_seed(resident):
    config = make_config()
    with config.unlocked():
        config.data.resident = resident
    experiment = experiments.build(config)
    feed = population._with_own_rows(experiment, [7, 8]).feed()
    images = [next(iter(feed.items(start, [1])))["image"][0] for start in (0, 3)]
    for i, seed in enumerate((7, 8)):
        with config.unlocked():
            config.seed = seed
        alone = experiments.build(config).feed()
        for mine, start in zip(images, (0, 3), strict=True):
            expected = next(iter(alone.items(start, [1])))["image"][0]
            np.testing.assert_array_equal(mine.reshape(2, 16, 16, 16, 3)[i], expected)


def test_random_host_operations_need_one_seed(tmp_path):
    host = {"data.host": "decode|random_resized_crop(16)"}
    with pytest.raises(UserError, match="draws random numbers, which members of different seeds cannot share"):
        population.train(members(tmp_path, [{"seed": 1}, {"seed": 2}], **host), tmp_path / "out", quiet=True)


def test_members_that_cannot_be_stacked_make_further_programs(tmp_path, monkeypatch, capsys):
    programs = []
    monkeypatch.setattr(population, "_train_group", lambda group, *_: programs.append(group))
    of_all = members(tmp_path, [{}, {"model.depth": 2}, {"seed": 1}, {"augment": "flip_lr"}])
    population.train(of_all, tmp_path / "out")
    assert [program.members for program in programs] == [[of_all[0], of_all[2]], [of_all[1]], [of_all[3]]]
    assert "program 1 of 3: 2 members that differ in seed" in capsys.readouterr().out


def test_ended_members_are_left_alone_and_another_config_is_refused(trained):
    folder, of_all, results = trained(True)
    before = (of_all[0].workdir / "metrics.jsonl").stat().st_mtime_ns
    assert population.train(of_all, folder / "out", quiet=True) == results
    assert (of_all[0].workdir / "metrics.jsonl").stat().st_mtime_ns == before
    other = Member(make_config(**{"optimizer.learning_rate": 0.5}), of_all[0].workdir)
    with pytest.raises(UserError, match="optimizer.learning_rate: 0.1 -> 0.5"):
        population.train([other], folder / "out", quiet=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer.learning_rate": -1.0}, "learning_rate must be a number of at least 0"),
        ({"task.label_smoothing": 1.0}, r"task.label_smoothing must be a number in \[0, 1\)"),
        ({"model.dropout": 1.5}, "dropout is a rate"),
        ({"augment": "mixup(-0.5)|normalize(0.5, 0.5)"}, "mixup: alpha must be a number"),
    ],
)
def test_a_number_out_of_range_in_any_member_is_named_before_anything_is_written(change, message, tmp_path):
    common = {"augment": "mixup(0.5)|normalize(0.5, 0.5)"}
    with pytest.raises(UserError, match=message):
        population.train(members(tmp_path, [{}, change], **common), tmp_path / "out", quiet=True)
    assert not list(tmp_path.iterdir())
