import pytest

from jaxvision.durations import check, steps
from jaxvision.errors import UserError


@pytest.mark.parametrize(
    ("duration", "expected"),
    [
        ("7 steps", 7),
        ("10_000 steps", 10_000),
        ("1 step", 1),
        ("1 epoch", 500),
        ("90 epochs", 45_000),
        ("0.5 epochs", 250),
        ("1e6 examples", 10_000),
        ("1 example", 1),  # above zero is at least one step
        ("149 examples", 1),
        ("151 examples", 2),
        ("5 percent", 50),
        (" 12.5  percent ", 125),
        ("0 epochs", 0),
        (0, 0),
        ("0", 0),
        (0.0, 0),
    ],
)
def test_steps(duration, expected):
    assert steps(duration, batch_size=100, examples=50_000, total=1_000) == expected


def test_imagenet_90_epochs():
    assert steps("90 epochs", batch_size=1024, examples=1_281_167) == round(90 * 1_281_167 / 1024) == 112_603


@pytest.mark.parametrize(
    ("duration", "message"),
    [
        ("3 epoks", "unknown unit of duration 'epoks'; did you mean 'epochs'? Choices: epochs, examples"),
        ("-1 epochs", "not negative"),
        (-1, "not negative"),
        (7, "the duration 7 has no unit: write '7 steps', '7 epochs', '7 examples' or '7 percent'"),
        ("7", "the duration '7' has no unit: write '7 steps'"),
        ("10_000", "has no unit: write '10_000 steps'"),
        ("1e4", "has no unit"),
        ("7steps", "cannot read"),
        (True, "cannot read"),
        ("nan steps", "finite"),
        ("inf steps", "finite"),
        ("epochs", "cannot read"),
        ("", "cannot read"),
        (2.5, "the duration 2.5 has no unit: write '2.5 steps', '2.5 epochs'"),
        (None, "cannot read"),
    ],
)
def test_unreadable_durations(duration, message):
    with pytest.raises(UserError) as error:
        steps(duration, batch_size=100, examples=1000, total=10)
    assert message in str(error.value)


def test_units_that_need_more():
    assert steps("10 steps", batch_size=1) == 10
    with pytest.raises(UserError, match="size of an epoch is not known"):
        steps("1 epoch", batch_size=100, total=10)
    with pytest.raises(UserError, match="percent of what"):
        steps("5 percent", batch_size=100, examples=1000)


def test_the_key_of_a_duration_that_cannot_be_read_is_named():
    with pytest.raises(UserError, match=r"evals\.val\.every: the duration 5 has no unit"):
        check(5, "evals.val.every")
    check("5 epochs", "train.total")
    check(0, "train.log_every")
