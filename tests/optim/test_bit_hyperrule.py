"""BiT-HyperRule against the numbers of the paper, sec. 3.3, and of the authors' code."""

import pytest

from jaxvision import augment
from jaxvision.data import host_ops
from jaxvision.errors import UserError
from jaxvision.optim import schedules
from jaxvision.optim.bit_hyperrule import hyperrule


@pytest.mark.parametrize(
    ("examples", "steps", "mixup"),
    [
        (10, 500, 0.0),
        (19_999, 500, 0.0),
        (20_000, 10_000, 0.1),
        (50_000, 10_000, 0.1),  # CIFAR
        (499_999, 10_000, 0.1),
        (500_000, 20_000, 0.1),
        (1_281_167, 20_000, 0.1),  # ImageNet
    ],
)
def test_length_and_mixup_by_size_of_the_data_set(examples, steps, mixup):
    rule = hyperrule(examples, (300, 300))
    assert (rule.steps, rule.mixup) == (steps, mixup)
    assert ("mixup(0.1)" in rule.augment) == bool(mixup)


@pytest.mark.parametrize(
    ("size", "large", "sides"),
    [
        ((32, 32), False, (160, 128)),
        ((95, 96), True, (160, 128)),
        ((96, 96), False, (448, 384)),
        ((400, 500), True, (512, 480)),
    ],
)
def test_resolution_by_size_of_the_images(size, large, sides):
    rule = hyperrule(1000, size, large=large)
    assert (rule.resize, rule.crop) == sides
    assert host_ops.host_ops.evaluation(rule.host) == f"decode|resize({sides[0]})|central_crop({sides[1]})"
    augment.make_augmentation(rule.augment, num_classes=10)


@pytest.mark.parametrize(
    ("examples", "boundaries"),
    [(1000, (150, 300, 450)), (50_000, (3000, 6000, 9000)), (10**6, (6000, 12_000, 18_000))],
)
def test_learning_rate(examples, boundaries):
    rule = hyperrule(examples, (32, 32))
    percent = lambda d: round(float(d.split()[0]) / 100 * rule.steps) if isinstance(d, str) else d
    rate = schedules.make_schedule(
        rule.schedule, learning_rate=rule.learning_rate, total=rule.steps, steps=percent, warmup=rule.warmup
    )
    assert float(rate(rule.warmup)) == pytest.approx(0.003)
    assert [round(float(rate(b - 1) / rate(b))) for b in boundaries] == [10, 10, 10]


def test_a_smaller_batch_takes_more_and_smaller_steps():
    rule = hyperrule(1000, (32, 32), batch_size=128)
    assert (rule.steps, rule.warmup) == (2000, 400)
    assert rule.learning_rate == pytest.approx(0.003 / 4)


def test_wrong_numbers_are_refused():
    with pytest.raises(UserError, match="at least 1"):
        hyperrule(0, (32, 32))
