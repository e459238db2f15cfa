"""Which steps a profile holds, and what is said of those that were not taken."""

from pathlib import Path

import jax
import pytest

from jaxvision import storage
from jaxvision.errors import UserError
from jaxvision.train.goodput import Goodput
from jaxvision.train.profiler import Profiler, Recorded, Steps, parse_steps


@pytest.fixture
def profile(monkeypatch, tmp_path):
    """`profile(text, lengths, start=0)`: the profiler after dispatches of these lengths, without a real trace."""
    monkeypatch.setattr(jax.profiler, "start_trace", lambda *args, **options: None)
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: None)

    def run(text, lengths, start=0):
        goodput, step = Goodput(), start
        with Profiler(parse_steps(text), tmp_path, goodput) as profiler:
            for length in lengths:
                profiler.before(step, length, ())
                with goodput.dispatch(length), profiler.annotated(step):
                    step += length
                profiler.after(step, ())
        return profiler

    return run


@pytest.mark.parametrize(
    ("text", "lengths", "start", "steps"),
    [
        ("3", [1] * 8, 0, (1, 4)),  # the first step compiles
        ("3", [1] * 8, 100, (101, 104)),
        ("2:5", [1] * 8, 0, (2, 5)),
        ("0:2", [1] * 8, 0, (0, 2)),
        ("3", [4, 4, 4], 0, (4, 8)),  # whole dispatches
        ("5:6", [4, 4, 4], 0, (4, 8)),
        ("2:5", [1] * 8, 3, (3, 5)),  # a run that was resumed in the middle
    ],
)
def test_the_steps_of_a_profile(profile, text, lengths, start, steps):
    assert profile(text, lengths, start).recorded.steps == steps


def test_a_run_that_is_too_short_says_so(profile):
    assert profile("3", [1] * 3).missing(3) == "the profile has 2 of 3 steps: this launch ended at step 3 of 3"
    none = profile("10:12", [1] * 3)
    assert none.recorded is None
    assert none.missing(3) == "no profile: the steps 10 to 12 were asked for, and this launch ended at step 3 of 3"
    assert profile("2", [1] * 3).missing(3) == ""


@pytest.mark.parametrize("text", ["", "0", "5:5", "9:4", "a", "1:2:3", "-3"])
def test_what_is_no_number_of_steps_is_refused(text):
    with pytest.raises(UserError, match="--profile must be a number of steps, such as 5"):
        parse_steps(text)


def test_the_values_are_plain():
    assert parse_steps(" 4 ") == Steps(None, 4)
    assert Recorded(Path(), (0, 1), 1.0, {}).steps == (0, 1)


def test_the_trace_of_a_run_in_a_bucket_is_uploaded(bucket, monkeypatch):
    def start(folder, **options):
        (Path(folder) / "plugins" / "profile" / "now").mkdir(parents=True)
        (Path(folder) / "plugins" / "profile" / "now" / "vm.trace.json.gz").write_bytes(b"trace")

    monkeypatch.setattr(jax.profiler, "start_trace", start)
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: None)
    workdir = storage.path("gs://bucket/profiled")
    with Profiler(parse_steps("0:1"), workdir, Goodput()) as profiler:
        profiler.before(0, 1, ())
        profiler.after(1, ())
    assert (workdir / "profile" / "plugins" / "profile" / "now" / "vm.trace.json.gz").read_bytes() == b"trace"
    assert profiler.recorded.folder.is_dir()
