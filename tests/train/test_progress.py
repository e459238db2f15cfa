"""Plain lines where there is no terminal."""

import math

from jaxvision.train.progress import Guessing, Reporter


def test_lines_tell_step_loss_speed_and_time_left(capsys):
    reporter = Reporter(0, 10)
    reporter.step(5, {"loss": 0.25, "examples_per_second": 1234.0, "grad_norm": 3.0}, left=65.0)
    reporter.step(6, {"loss": 0.125})
    reporter.note("val/top1 50 %")
    reporter.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "step 5/10  loss 0.25  examples/s 1,234  left 1m05s"
    assert lines[1] == "step 6/10  loss 0.125"
    assert lines[2] == "val/top1 50 %"


def test_a_lower_bound_says_so_and_all_lines_are_kept(capsys):
    kept = []
    reporter = Reporter(0, 10, keep=kept.append)
    reporter.step(5, {"loss": 0.25}, left=65.0, at_least=True)
    reporter.note("val/top1 50 %")
    assert kept == ["step 5/10  loss 0.25  left at least 1m05s", "val/top1 50 %"]
    assert capsys.readouterr().out.splitlines() == kept


def test_quiet_is_silent(capsys):
    reporter = Reporter(0, 10, quiet=True, keep=print)
    reporter.step(5, {"loss": 0.25})
    reporter.note("text")
    reporter.close()
    assert capsys.readouterr().out == ""


def told(guessing, ratio, steps):
    """The steps at which a warning comes, of logs after each of `steps`, whose loss is `ratio(step)` of guessing."""
    return [step for step in steps if guessing.warning(step, {"loss_over_chance": ratio(step)})]


def test_a_collapse_is_told_once_and_after_steps_not_logs():
    collapsed = lambda step: 1 + 0.005 * math.sin(step)
    assert told(Guessing(1000), collapsed, range(1, 1001)) == [201]
    assert told(Guessing(1000), collapsed, range(50, 1001, 50)) == [250]
    assert told(Guessing(20_000), collapsed, range(1, 20_001)) == [2001]  # a longer run may take longer to begin
    assert told(Guessing(1000, warmup=500), collapsed, range(1, 1001)) == [701]
    text = Guessing(1000)
    text.warning(100, {"loss_over_chance": 1.0})
    assert "over the last 400 steps the loss was that of guessing" in text.warning(500, {"loss_over_chance": 1.0})


def test_a_collapse_in_the_middle_of_a_run_is_told():
    ratio = lambda step: 1 - step / 1000 if step < 400 else 1.0
    assert told(Guessing(1000), ratio, range(1, 1001)) == [600]


def test_a_healthy_run_that_logs_every_step_is_left_alone():
    """The loss of guessing at the start, during a warm-up of 300 steps, and for a while after it, slowly falling."""
    ratio = lambda step: 1.001 if step <= 300 else max(1 - (step - 300) / 10_000, 0.1)
    assert told(Guessing(10_000, warmup=300), ratio, range(1, 10_001)) == []
    assert told(Guessing(15), lambda step: 1.0, range(1, 16)) == []  # too short to tell
    slow = lambda step: 1.019 - 0.012 * (step // 190)  # always near, but every 190 steps a little better
    assert told(Guessing(600), slow, range(1, 570)) == []


def test_a_task_that_does_not_say_what_guessing_costs_is_left_alone():
    guessing = Guessing(1000)
    assert not any(guessing.warning(step, {"loss": 1.0}) for step in range(1, 1001))
