"""Plain lines where there is no terminal."""

from jaxvision.train.progress import Guessing, Reporter


def test_lines_tell_step_loss_speed_and_time_left(capsys):
    reporter = Reporter(0, 10)
    reporter.step(5, {"loss": 0.25, "examples_per_second": 1234.0, "grad_norm": 3.0})
    reporter.note("val/top1 50 %")
    reporter.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("step 5/10  loss 0.25  examples/s 1,234  left ")
    assert lines[1] == "val/top1 50 %"


def test_quiet_is_silent(capsys):
    reporter = Reporter(0, 10, quiet=True)
    reporter.step(5, {"loss": 0.25})
    reporter.note("text")
    reporter.close()
    assert capsys.readouterr().out == ""


def test_a_loss_that_stays_at_guessing_is_told_once():
    guessing = Guessing(logs=3)
    told = [guessing.warning({"loss_over_chance": x}) for x in (1.0, 0.99, 0.9, 1.0, 1.01, 1.0, 1.0)]
    assert [bool(text) for text in told] == [False] * 5 + [True, False]
    assert "over the last 3 logs the loss was that of guessing" in told[5]
    assert not any(guessing.warning({"loss": 1.0}) for _ in range(5))  # a task that does not say
