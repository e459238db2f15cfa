"""Verdicts follow from intervals."""

import pytest

from jaxvision.analysis.criteria import Verdict
from jaxvision.analysis.statistics import Interval, paired_difference

CLEAR = paired_difference([0.5, 0.6, 0.7], [0.1, 0.2, 0.31])
NOISY = paired_difference([0.5, 0.6, 0.7], [0.1, 0.6, 0.71])
SINGLE = paired_difference([0.9], [0.1])


def test_a_mean_meets_nothing():
    assert NOISY.interval.mean > 0.1
    assert Verdict({"a minus b": CLEAR}).met
    assert not Verdict({"a minus b": NOISY}).met
    assert not Verdict({"a minus b": SINGLE}).met, "a single seed has no interval"


def test_every_difference_and_every_condition_must_hold():
    assert not Verdict({"a": CLEAR, "b": NOISY}).met
    assert not Verdict({"a": CLEAR}, least=0.5).met
    assert Verdict({"a": CLEAR}, further={"the means never fall": True}).met
    assert not Verdict({"a": CLEAR}, further={"the means never fall": False}).met
    with pytest.raises(ValueError, match="needs a difference"):
        Verdict({})


def test_the_line_has_all_evidence():
    verdict = Verdict({"a": Interval(0.2, 0.1, 0.3, 5), "b": SINGLE}, further={"see c": True})
    evidence = "a: 20.0 ± 10.0 points; b: +80.0 points (one seed, no interval); see c"
    assert verdict.line("rises") == f"- rises: **FAILED**, not known: one seed has no interval; {evidence}."
    assert Verdict({"ratio": Interval(2, 1.5, 3, 5)}, least=1, show=lambda i: f"{i.mean:g}").finding == "ratio: 2"
