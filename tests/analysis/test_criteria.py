"""Verdicts follow from intervals."""

import pytest

from jaxvision.analysis.criteria import Verdict, opening, section, tally
from jaxvision.analysis.statistics import Interval, least_p, paired_difference

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
    assert verdict.line("rises") == f"- `rises`: **FAILED**, not known: one seed has no interval; {evidence}."
    assert Verdict({"ratio": Interval(2, 1.5, 3, 5)}, least=1, show=lambda i: f"{i.mean:g}").finding == "ratio: 2"


NEGATIVE = paired_difference([0.1, 0.2, 0.31], [0.5, 0.6, 0.7])


@pytest.mark.parametrize(
    ("verdict", "outcome", "words"),
    [
        (Verdict({"a": CLEAR}), "met", "**met**"),
        (Verdict({"a": NOISY}), "open", "**FAILED**, not settled by 3 seeds (the interval includes zero)"),
        (Verdict({"a": CLEAR, "b": NOISY}), "open", "**FAILED**, not settled by 3 seeds (an interval includes zero)"),
        (Verdict({"a": NEGATIVE}), "opposite", "**FAILED**, the opposite holds"),
        (Verdict({"a": NEGATIVE, "b": NEGATIVE}), "opposite", "**FAILED**, the opposite holds"),
        (Verdict({"a": NEGATIVE, "b": NOISY}), "mixed", "**FAILED**, one of the intervals is wholly below zero"),
        (Verdict({"a": CLEAR, "b": NEGATIVE}), "mixed", "**FAILED**, one of the intervals is wholly below zero"),
        (
            Verdict({"a": CLEAR}, least=0.6, bound="60 points"),
            "opposite",
            "**FAILED**, the interval is wholly below 60 points",
        ),
        (
            Verdict({"a": Interval(1.1, 0.9, 1.3, 13)}, least=1, sample="13 models"),
            "open",
            "**FAILED**, not settled by 13 models (the interval includes 1)",
        ),
        (
            Verdict({"a": CLEAR}, further={"it rises": False}),
            "condition",
            "**FAILED**, a further condition fails (the interval is above zero)",
        ),
        (Verdict({"a": SINGLE}), "unknown", "**FAILED**, not known: one seed has no interval"),
        (Verdict({"a": paired_difference([0.5] * 3, [0.5] * 3)}), "open", "not settled by 3 seeds"),
    ],
)
def test_outcomes_are_told_apart(verdict, outcome, words):
    assert verdict.outcome == outcome
    assert words in verdict.judgement
    assert verdict.met == (outcome == "met")


def test_an_answer_follows_the_outcome():
    told = [
        Verdict({"a": gain}).tell("A leads", "B leads", "A leads", "x") for gain in (CLEAR, NEGATIVE, NOISY, SINGLE)
    ]
    assert told[:2] == ["A leads", "B leads"]
    assert told[2:] == [
        "whether A leads is not settled by 3 seeds (x)",
        "whether A leads is not known from one seed (x)",
    ]


def test_a_line_says_what_must_hold_and_a_summary_names_what_failed():
    verdicts = {"leads": Verdict({"a": CLEAR}, claim="A leads"), "grows": Verdict({"a": NOISY}, claim="its lead grows")}
    lines = section(verdicts)
    assert lines[0].startswith("- `leads`: A leads. **met**; a: 39.7")
    assert lines[1].startswith("- `grows`: its lead grows. **FAILED**, not settled by 3 seeds")
    assert tally(verdicts) == "1 of 2 is met; not settled: `grows`."
    assert tally({"a": verdicts["leads"]}) == "1 of 1 is met."
    assert opening("Yes, 1.0.", "A paper: yes.") == ["**Answer.** Yes, 1.0.\n", "**Expected.** A paper: yes.\n"]


def test_what_few_seeds_allow_is_said_once_and_only_where_p_is_given():
    several = {name: Verdict({"a": CLEAR}) for name in "abc"}
    told = [line for line in section(several) if "cannot give a p below 0.25" in line]
    assert len(told) == 1
    assert told[0].startswith("\nWith 3 seeds")
    assert len(section({"a": Verdict({"a": CLEAR}, show=lambda gain: "much")})) == 1
    assert len(section({"a": Verdict({"a": SINGLE})})) == 1
    assert least_p(5) == min(paired_difference([1.0] * 5, [0.0] * 5).p, 1) == 0.0625
