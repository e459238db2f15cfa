import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.durations import steps as duration_steps
from jaxvision.errors import UserError
from jaxvision.optim import schedules


def number(duration):
    """Steps of a duration in steps."""
    return int(str(duration).split()[0])


def make(schedule, learning_rate=1.0, total=100, steps=number, **kwargs):
    return schedules.make_schedule(schedule, learning_rate=learning_rate, total=total, steps=steps, **kwargs)


def values(rate, *steps):
    return [float(rate(s)) for s in steps]


def test_step_at_epochs_30_60_90():
    """He et al. 2016: 0.1, a tenth after each 30 epochs."""

    def steps(duration):
        return duration_steps(duration, batch_size=10, examples=100, total=1000)

    rate = make("step('30 epochs', '60 epochs', '90 epochs')", 0.1, total=1000, steps=steps)
    epochs = [0, 29.9, 30, 59.9, 60, 89.9, 90, 99.9]
    expected = [0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001]
    np.testing.assert_allclose(values(rate, *(round(10 * e) for e in epochs)), expected, rtol=1e-5)
    np.testing.assert_allclose(values(make("step(50, factor=0.5)"), 49, 50), [1, 0.5])


def test_warmup_runs_from_zero_to_the_peak():
    rate = make("constant", 2.0, warmup=10)
    np.testing.assert_allclose(values(rate, 0, 1, 5, 10, 11, 99), [0, 0.2, 1, 2, 2, 2], rtol=1e-6)


def test_cosine():
    np.testing.assert_allclose(values(make("cosine"), 0, 25, 50, 100, 120), [1, 0.853553, 0.5, 0, 0], atol=1e-6)
    rate = make("cosine(final=0.1)", warmup=20)
    np.testing.assert_allclose(values(rate, 10, 20, 60, 100), [0.5, 1, 0.55, 0.1], atol=1e-6)


def test_linear():
    np.testing.assert_allclose(values(make("linear"), 0, 50, 100), [1, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(values(make("linear(0.2)", warmup=20), 20, 60, 100), [1, 0.6, 0.2], atol=1e-6)


def test_rsqrt():
    rate = make("rsqrt(timescale=100)", total=1000, warmup=100, cooldown=200)
    np.testing.assert_allclose(values(rate, 50, 100, 400, 800), [0.5, 1, 0.5, 8**-0.5], rtol=1e-6)
    np.testing.assert_allclose(values(rate, 900, 1000), [0.5 * 9**-0.5, 0], rtol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "linear(0.5)", "cosine(0.5)", "step(10)", "rsqrt"])
def test_cooldown_ends_every_schedule_at_zero(schedule):
    whole, cooled = make(schedule), make(schedule, cooldown=40)
    np.testing.assert_allclose(values(cooled, 0, 60), values(whole, 0, 60))
    np.testing.assert_allclose(values(cooled, 80, 99, 100), [float(whole(80)) / 2, float(whole(99)) / 40, 0], rtol=1e-6)


def test_durations_are_converted():
    def steps(duration):
        return duration_steps(duration, batch_size=1, total=200)

    rate = make("constant", total=200, steps=steps, warmup="10 percent", cooldown="50 percent")
    np.testing.assert_allclose(values(rate, 10, 20, 100, 150), [0.5, 1, 1, 0.5])


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "step(30, 60)", "rsqrt(100)"])
def test_pure_function_of_the_step(schedule):
    rate = make(schedule, 0.3, warmup=10, cooldown=10)
    steps = jnp.arange(101)
    assert rate(3).dtype == jnp.float32
    assert rate(3).shape == ()
    one_by_one = [float(rate(int(s))) for s in steps]
    np.testing.assert_allclose(jax.jit(jax.vmap(rate))(steps), one_by_one, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize(
    ("schedule", "kwargs", "message"),
    [
        ("cosin", {}, "unknown schedule 'cosin'; did you mean 'cosine'"),
        ("cosine(end=0.1)", {}, r"Usage: cosine\(final=0.0\)"),
        ("cosine|linear", {}, "must be one call"),
        ("", {}, "must be one call"),
        ("step(30)", {"steps": lambda d: duration_steps(d, batch_size=1)}, "30 has no unit: write '30 steps'"),
        ("rsqrt(100)", {"steps": lambda d: duration_steps(d, batch_size=1)}, "100 has no unit"),
        ("step('3 epochs')", {"steps": lambda d: duration_steps(d, batch_size=1)}, "size of an epoch is not known"),
        ("constant", {"warmup": 80, "cooldown": 30}, "warmup of 80 and cooldown of 30 steps do not fit into 100"),
    ],
)
def test_errors_at_construction(schedule, kwargs, message):
    with pytest.raises(UserError, match=message):
        make(schedule, **kwargs)
