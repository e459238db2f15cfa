"""Plain lines where there is no terminal."""

from jaxvision.train.progress import Reporter


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
