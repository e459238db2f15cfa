import pytest

from jaxvision import paths
from jaxvision.errors import UserError

TREE = {"encoder": {"block_00": {"kernel": 1, "bias": 2}}, "head": {"kernel": 3, "bias": 4}}


def test_first_match_wins_anywhere_in_the_path():
    values = paths.match((("^head/", 10), ("bias$", 0), (".*", 1)), TREE, "rules")
    assert values == {"encoder": {"block_00": {"kernel": 1, "bias": 0}}, "head": {"kernel": 10, "bias": 10}}


def test_every_leaf_must_be_covered():
    tree = {f"layer{i}": {"kernel": 0, "bias": 0} for i in range(7)}
    with pytest.raises(UserError, match=r"decay_rules must cover everything; no rule matches layer0/bias.* and 2 more"):
        paths.match((("kernel", 1),), tree, "decay_rules")
    with pytest.raises(UserError, match="no rule matches"):
        paths.match((), tree, "decay_rules")


def test_a_rule_that_decides_nothing_is_an_error():
    with pytest.raises(UserError, match="'haed' decides nothing"):
        paths.match((("haed", 1), (".*", 0)), TREE, "rules")
    with pytest.raises(UserError, match="'head' decides nothing"):  # hidden by the rule before it
        paths.match(((".*", 0), ("head", 1)), TREE, "rules")
    paths.match((("haed", 1), (".*", 0)), TREE, "rules", check_unused=False)
    paths.match((("kernel", 1), ("bias", 0), (".*", 0)), TREE, "rules")  # a last catch-all may have nothing left


@pytest.mark.parametrize("rule", ["kernel", ("kernel",), ("(", 1), (3, 1)])
def test_malformed_rules(rule):
    with pytest.raises(UserError, match="not a pair"):
        paths.match((rule,), TREE, "rules")


def test_values_may_be_tuples_and_rules_lists():
    values = paths.match([["kernel", (None, "tensor")], [".*", ()]], TREE, "rules")
    assert values["head"] == {"kernel": (None, "tensor"), "bias": ()}
