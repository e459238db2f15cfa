"""The controller: every trial is asked, run and told once, whatever happens to runs, nodes and itself."""

import json
import math
import os
import re
import runpy
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jaxvision.errors import UserError
from jaxvision.sweep import Sweep, controller, grid, runs, together, uniform
from jaxvision.sweep.controller import Controller
from jaxvision.sweep.tabulated import rehearse
from jaxvision.train.watch import Preempted

pytest.importorskip("optuna")

SCRIPT = Path(__file__).parent / "fake_cluster.py"
fake = runpy.run_path(str(SCRIPT))
FakeCluster = fake["FakeCluster"]


@pytest.fixture
def sweep(tmp_path):
    """`sweep(**fields)`: a sweep of a config that nobody can train."""
    (tmp_path / "fake.py").write_text(fake["CONFIG"])

    def make(**fields):
        return Sweep(**{"config": str(tmp_path / "fake.py"), "space": {"x": grid(0, 1, 2)}, "search": "grid", **fields})

    return make


@pytest.fixture
def start(tmp_path):
    """`start(sweep, cluster, **options)`: a controller in one folder."""

    def make(sweep, cluster=None, **options):
        cluster = cluster or FakeCluster(tmp_path / "cluster")
        options = dict(seconds=0, command=fake["command"], steps=100) | options
        return Controller(sweep, tmp_path / "out", cluster, **options)

    return make


def states(trials):
    return [trial.state for trial in trials]


def jobs(tmp_path):
    return FakeCluster(tmp_path / "cluster").jobs().values()


def faults(tmp_path, stride):
    done = subprocess.run([sys.executable, SCRIPT, tmp_path, str(stride)], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def check_faults(lines):
    assert len(lines) > 5
    assert lines[0]["killed"]
    assert not lines[-1]["killed"]
    run = {
        "0": ["complete", "complete", 1],  # of the trial, of the run, jobs
        "1": ["complete", "complete", 3],  # preempted twice
        "2": ["complete", "complete", 2],  # lost once
        "3": ["failed", "failed", 1],  # exit status 2
    }
    for line in lines:
        assert line["found"] == {f"{trial}/{seed}": run[trial] for trial in run for seed in (0, 1)}
        assert line["told"] == [0, 1, 2, 3]
        assert line["jobs"] == 2 * (1 + 3 + 2 + 1)


def test_a_controller_that_was_killed_loses_nothing_and_counts_nothing_twice(tmp_path):
    check_faults(faults(tmp_path, 12))


@pytest.mark.slow
def test_a_controller_may_be_killed_at_every_single_write(tmp_path):
    lines = faults(tmp_path, 1)
    check_faults(lines)
    assert len(lines) > 100


def test_every_point_is_run_under_every_seed_and_its_value_is_the_mean(sweep, start, tmp_path):
    cluster = FakeCluster(tmp_path / "cluster", value=lambda values: values["x"] + values["seed"] / 10)
    one = start(sweep(seeds=(3, 5)), cluster)
    assert states(one.run()) == ["complete"] * 3
    assert sorted((job["values"]["x"], job["values"]["seed"]) for job in jobs(tmp_path)) == [
        (x, seed) for x in (0, 1, 2) for seed in (3, 5)
    ]
    assert [trial.value for trial in one.trials] == pytest.approx([0.4, 1.4, 2.4])
    assert one.best.number == 2


def test_no_more_runs_are_alive_at_once_than_asked_for(sweep, start):
    seen = []
    one = start(sweep(seeds=(0, 1)), parallel=2, show=lambda c: seen.append(len(c.alive)))
    one.run()
    assert max(seen) == 2


def losses(*values):
    """Lines of metrics.jsonl as a run writes them: what is not finite is null."""
    return [{"step": 10 * (i + 1), "loss": v if math.isfinite(v) else None} for i, v in enumerate(values)]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (losses(2.3, 1e4, 6e29), {}),
        (losses(2.3, math.nan), {}),
        (losses(2.3, 1.0), {"val/loss": math.inf}),
        (losses(2.3, 1.0), {"val/loss": 6e29}),
        ([{"step": 10, "loss": 1e20, "first_loss": 2.3}, {"step": 20, "loss": 400.0}], {}),
        ([], {"val/top1": math.nan}),
        ([], {"val/top1": math.inf}),
    ],
)
@pytest.mark.parametrize("pruning", [None, "asha", "median(startup=1)"])
def test_a_trial_that_diverged_is_never_the_best(sweep, start, tmp_path, lines, expected, pruning):
    """Its objective, 2, is the highest where it is finite."""
    reported = []
    cluster = FakeCluster(
        tmp_path / "cluster",
        results=lambda values: expected if values["x"] == 2 else {},
        lines=lambda values: lines if values["x"] == 2 else [],
    )
    one = start(sweep(pruning=pruning), cluster, say=reported.append, parallel=1)
    trials = one.run()
    assert states(trials) == ["complete", "complete", "failed"]
    assert one.best.number == 1
    assert any(re.search("trial 2: failed, (diverged: its |its val/top1 is not finite)", text) for text in reported)
    assert start(sweep(pruning=pruning), cluster).run() == trials


def test_a_trial_that_an_earlier_version_told_as_complete_is_not_the_best_either(sweep, start, tmp_path):
    one = start(sweep(), FakeCluster(tmp_path / "cluster"))
    one.run()
    assert one.best.number == 2
    text = "".join(json.dumps(line) + "\n" for line in losses(2.3, 6e29))
    (tmp_path / "out" / "trials" / "0002" / "seed0" / "metrics.jsonl").write_text(text)
    again = start(sweep(), FakeCluster(tmp_path / "cluster"))
    again.run()
    assert again.best.number == 1


def test_a_run_that_diverges_is_ended_early_where_trials_are_pruned(sweep, start, tmp_path):
    lines = lambda values: losses(2.3, 6e29) if values["x"] == 1 else []
    cluster = FakeCluster(tmp_path / "cluster", steps=[25, 50], lines=lines, hold=(1,))
    trials = start(sweep(pruning="median(startup=5)"), cluster, parallel=1).run()
    assert states(trials) == ["complete", "failed", "complete"]


def test_a_run_that_vanishes_again_and_again_fails(sweep, start, tmp_path):
    cluster = FakeCluster(tmp_path / "cluster", fate=lambda values, _: "lost" if values["x"] == 1 else "done")
    trials = start(sweep(), cluster).run()
    assert states(trials) == ["complete", "failed", "complete"]
    assert trials[1].runs[0].attempts == runs.MOST_LOST + 1


def test_a_run_that_a_signal_killed_is_started_again(sweep, start, tmp_path):
    cluster = FakeCluster(tmp_path / "cluster", fate=lambda values, attempt: -9 if attempt == 1 else "done")
    trials = start(sweep(), cluster).run()
    assert [trial.runs[0].attempts for trial in trials] == [2, 2, 2]
    assert states(trials) == ["complete"] * 3


def test_a_point_of_which_one_seed_fails_has_failed(sweep, start, tmp_path):
    fate = lambda values, _: 1 if (values["x"], values["seed"]) == (0, 1) else "done"
    trials = start(sweep(seeds=(0, 1)), FakeCluster(tmp_path / "cluster", fate)).run()
    assert states(trials) == ["failed", "complete", "complete"]
    assert [trials[0].runs[seed].state for seed in (0, 1)] == ["complete", "failed"]


def test_a_finished_sweep_does_nothing_and_more_trials_go_on(sweep, start, tmp_path):
    fields = dict(space={"x": uniform(0, 1)}, search="random(seed=4)")
    (tmp_path / "fake.py").write_text(fake["CONFIG"].replace("c.x = 0", "c.x = 0.0"))
    first = start(sweep(**fields, trials=2)).run()
    assert start(sweep(**fields, trials=2)).run() == first
    assert len(jobs(tmp_path)) == 2
    more = start(sweep(**fields, trials=4)).run()
    assert more[:2] == first
    assert len(more) == 4
    assert len(jobs(tmp_path)) == 4


@pytest.mark.parametrize("search", ["ageing_evolution(population=2, sample=2)", "reinforce(learning_rate=0.5)"])
def test_a_search_that_learns_goes_on_where_another_controller_ended(sweep, start, tmp_path, search):
    space, score = {"x": grid(*range(6))}, lambda values: -abs(values["x"] - 4)
    cluster = FakeCluster(tmp_path / "cluster", value=score)
    for trials in (3, 5, 9):
        one = start(sweep(space=space, search=search, trials=trials), cluster, parallel=1)
        one.run()
    assert [trial.params for trial in one.trials] == rehearse(search, space, score, 9)


def test_a_sweep_that_was_changed_is_refused(sweep, start, tmp_path):
    start(sweep()).run()
    with pytest.raises(UserError, match="sweep.space: x: grid"):
        start(sweep(space={"x": grid(0, 1, 3)})).run()
    with pytest.raises(UserError, match="sweep.seeds"):
        start(sweep(seeds=(1,))).run()
    (tmp_path / "fake.py").write_text(fake["CONFIG"].replace("validation", "test"))
    with pytest.raises(UserError, match="config.evals.val.split: validation -> test"):
        start(sweep()).run()


def test_two_controllers_do_not_share_a_folder(sweep, start, tmp_path):
    with controller.locked(tmp_path / "out"), pytest.raises(UserError, match=f"process {os.getpid()} of "):
        start(sweep()).run()
    start(sweep()).run()


def test_an_objective_that_no_run_gives_is_named(sweep, start):
    with pytest.raises(UserError, match="'val/top2', the objective of the sweep. They have val/top1"):
        start(sweep(objective="val/top2")).run()


def stop_soon(one):
    """SIGTERM to this process once two runs are alive."""

    def wait():
        until = time.monotonic() + 20
        while len(one.alive) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


@pytest.mark.parametrize("leave", [True, False])
def test_a_controller_that_is_told_to_stop_goes_on_later(sweep, start, tmp_path, leave):
    cluster = FakeCluster(tmp_path / "cluster", hold=(0, 1, 2))
    one = start(sweep(), cluster, seconds=0.01, leave=leave)
    stop_soon(one)
    with pytest.raises(Preempted, match="keep running without" if leave else "asked to save"):
        one.run()
    assert {job["state"] == "gone" for job in jobs(tmp_path)} == {not leave}
    trials = start(sweep()).run()
    assert states(trials) == ["complete"] * 3
    assert [trial.runs[0].attempts for trial in trials] == ([1, 1, 1] if leave else [2, 2, 1])


def test_bad_trials_are_pruned_by_their_metrics(sweep, start, tmp_path):
    """The median of the first two trials is 4.5, so 3 and 2 go at the first step that they show, and 6 stays."""
    steps = [25, 50, 75, 100]
    cluster = FakeCluster(tmp_path / "cluster", steps=steps)
    space = {"x": grid(5, 4, 3, 6, 2)}
    one = start(sweep(space=space, pruning="median(startup=2)", seeds=(0, 1)), cluster, parallel=1)
    trials = one.run()
    assert states(trials) == ["complete", "complete", "pruned", "complete", "pruned"]
    assert {seed: run.state for seed, run in trials[2].runs.items()} == {0: "pruned", 1: "pruned"}
    assert trials[2].runs[1].attempts == 0  # its second seed was never started
    reported = {job["values"]["x"]: job["told"] for job in jobs(tmp_path) if job["values"]["seed"] == 0}
    assert reported == {5: 4, 4: 4, 3: 1, 6: 4, 2: 1}
    assert start(sweep(space=space, pruning="median(startup=2)", seeds=(0, 1)), cluster).run() == trials


def test_with_pruning_a_point_whose_first_seed_fails_has_failed(sweep, start, tmp_path):
    cluster = FakeCluster(tmp_path / "cluster", fate=lambda values, _: 1 if values["x"] == 1 else "done")
    trials = start(sweep(pruning="median", seeds=(0, 1)), cluster).run()
    assert states(trials) == ["complete", "failed", "complete"]
    assert [run.attempts for run in trials[1].runs.values()] == [1, 0]


def test_a_pruned_run_that_outlived_its_controller_is_ended(sweep, start, tmp_path):
    """The controller dies between telling the journal and telling the run."""
    fields = dict(space={"x": grid(5, 4)}, pruning="median(startup=1)")
    cluster = FakeCluster(tmp_path / "cluster", steps=[25], hold=(4,))

    class Died(Exception):
        pass

    def die(job, folder):
        raise Died

    cluster.cancel = die
    with pytest.raises(Died):
        start(sweep(**fields), cluster, parallel=1).run()
    trials = start(sweep(**fields)).run()
    assert states(trials) == ["complete", "pruned"]
    assert all(job["state"] == "gone" for job in jobs(tmp_path))


def test_the_command_is_one_that_a_person_can_type(tmp_path):
    values = {"optimizer.learning_rate": 1e-05, "model.variant": "8", "data.fields": ("image", "label"), "seed": 3}
    words = runs.command("configs/a.py:8", values, tmp_path / "seed3")
    assert words[:4] == [sys.executable, "-m", "jaxvision", "train"]
    assert words[4:6] == [f"--config={Path.cwd()}/configs/a.py:8", f"--workdir={tmp_path}/seed3"]
    assert words[6:] == [
        "--config.optimizer.learning_rate=1e-05",
        "--config.model.variant=8",
        "--config.data.fields=('image', 'label')",
        "--config.seed=3",
    ]


def test_a_population_is_asked_for_trained_and_told_in_groups(sweep, tmp_path, monkeypatch):
    """With a stand-in for `population.train`, of which the member x = 1 diverges and the second call is interrupted."""
    groups = []

    def train(members, out):
        groups.append([(member.config.x, member.config.seed) for member in members])
        for member in members:
            member.workdir.mkdir(parents=True, exist_ok=True)
            (member.workdir / "run.json").write_text('{"launches": [{"start_step": 0}]}')
        if len(groups) == 2:
            raise Preempted("stopped")
        for member in members:
            done = {"steps": 1, "seconds": 1.0, "results": {"val/top1": member.config.x}}
            (member.workdir / "results.json").write_text(json.dumps(done))
            if member.config.x == 1:
                (member.workdir / "results.json").rename(member.workdir / "failed.json")

    monkeypatch.setattr(together.population, "train", train)
    with pytest.raises(Preempted):
        together.Together(sweep(seeds=(0, 1)), tmp_path / "out", 2).run()
    trials = together.Together(sweep(seeds=(0, 1)), tmp_path / "out", 2).run()
    assert groups == [[(0, 0), (0, 1), (1, 0), (1, 1)], [(2, 0), (2, 1)], [(2, 0), (2, 1)]]
    assert states(trials) == ["complete", "failed", "complete"]
    assert {run.attempts for trial in trials for run in trial.runs.values()} == {1}
