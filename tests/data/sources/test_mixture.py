from collections import Counter

import numpy as np
import pytest

from jaxvision.data import order, sources, subsets
from jaxvision.data.sources import mixture
from jaxvision.errors import UserError


class Numbers(sources.Source):
    """`n` examples whose text names them."""

    def __init__(self, name, n, classes=("x", "y")):
        self.info = sources.Info(name, "train", n, classes, len(classes) or None)

    def __len__(self):
        return self.info.num_examples

    def __getitem__(self, index):
        return {"text": f"{self.info.name}{index}", "label": index % 2}


@pytest.fixture
def mixed():
    parts = {"a": Numbers("a", 30), "b": Numbers("b", 700), "c": Numbers("c", 7)}
    return mixture.Mixture(parts, "train", {"a": 3, "b": 6, "c": 1})


def test_parts_stand_one_after_the_other(mixed):
    assert mixed.info._replace(fields={}) == sources.Info("a+b+c", "train", 737, ("x", "y"), 2)
    assert [mixed[i]["text"] for i in (0, 29, 30, 729, 730, 736)] == ["a0", "a29", "b0", "b699", "c0", "c6"]
    assert mixed.labels.tolist() == [mixed[i]["label"] for i in range(737)]
    assert mixed.describe(730) == "example 0 of c train"


def test_every_block_holds_the_exact_shares(mixed):
    for block in (0, 1, 57):
        drawn = mixed.order(5, block * 1000, (block + 1) * 1000)
        assert Counter(mixed[i]["text"][0] for i in drawn) == {"a": 300, "b": 600, "c": 100}


def test_each_part_runs_through_its_own_epochs(mixed):
    texts = [mixed[i]["text"] for i in mixed.order(5, 0, 7000)]
    for part, n in {"a": 30, "b": 700, "c": 7}.items():
        of_part = [t for t in texts if t[0] == part]
        for epoch in range(len(of_part) // n):
            assert len(set(of_part[epoch * n : (epoch + 1) * n])) == n


def test_the_stream_is_a_function_of_seed_and_position(mixed):
    whole = mixed.order(5, 0, 3000)
    for start, stop in [(0, 1), (7, 7), (990, 1010), (1999, 2000), (500, 2999)]:
        np.testing.assert_array_equal(mixed.order(5, start, stop), whole[start:stop])
    assert whole.dtype == np.int64
    assert (mixed.order(6, 0, 3000) != whole).mean() > 0.5
    blocks = whole.reshape(3, 1000) < 30
    assert (blocks[0] != blocks[1]).any(), "all blocks have their parts in the same places"


def test_parts_do_not_share_their_draws():
    twins = mixture.Mixture({"a": Numbers("a", 50), "b": Numbers("b", 50)}, "train", {"a": 1, "b": 1})
    drawn = twins.order(0, 0, 1000)
    a, b = drawn[drawn < 50], drawn[drawn >= 50] - 50
    assert (a[:50] != b[:50]).any()


def test_many_parts_do_not_shuffle_again_for_every_example(monkeypatch):
    made = []
    philox = np.random.Philox
    monkeypatch.setattr(order.np.random, "Philox", lambda **key: made.append(key) or philox(**key))
    parts = {f"p{i}": Numbers(f"p{i}", 100_000) for i in range(20)}
    many = mixture.Mixture(parts, "train", dict.fromkeys(parts, 1))
    for position in range(0, 300):
        many.order(123, position, position + 1)
    assert len(made) <= 21  # one block and one epoch of every part


def test_shares_are_rounded_by_largest_remainders():
    assert mixture.block_shares([1, 1, 1]) == (334, 333, 333)
    assert mixture.block_shares([0.7, 0.2, 0.1]) == (700, 200, 100)
    assert mixture.block_shares([5]) == (1000,)
    for weights in ([1, 0], [1, -1], []):
        with pytest.raises(UserError, match="weights above 0"):
            mixture.block_shares(weights)
    with pytest.raises(UserError, match="part 'b' of the mixture has a weight of under 1/1000"):
        mixture.Mixture({"a": Numbers("a", 5), "b": Numbers("b", 5)}, "train", {"a": 1, "b": 1e-4})


def test_classes_must_agree():
    def mix(*classes):
        parts = {f"p{i}": Numbers("n", 5, c) for i, c in enumerate(classes)}
        return mixture.Mixture(parts, "train", dict.fromkeys(parts, 1)).info

    assert mix(("x", "y"), ("x", "y")).classes == ("x", "y")
    assert mix(("x", "y"), ()).num_classes is None
    with pytest.raises(UserError, match="'p0' and 'p1' of the mixture differ in their classes: 2 and 3"):
        mix(("x", "y"), ("x", "y", "z"))
    with pytest.raises(UserError, match="differ in their classes: 'y' and 'z'"):
        mix(("x", "y"), ("x", "z"))


def test_no_subset_of_a_mixture(mixed):
    with pytest.raises(UserError, match="take subsets of its parts"):
        subsets.take(mixed, 10, seed=0)


def test_mixture_of_a_config(folder):
    section = dict(name="folder", data_dir=str(folder))

    def mix(split="train", **parts):
        return sources.open_source("mixture", split, options=parts)

    both = mix(a=section | dict(weight=3), b=section | dict(subset=dict(examples=2, seed=0)))
    assert (len(both), both.info.classes) == (9, ("cat", "dog"))
    drawn = both.order(0, 0, 1000)
    assert (drawn < 7).sum() == 750
    assert both[8]["image"] == (folder / "train" / "dog" / both.describe(8).rsplit("/", 1)[1]).read_bytes()
    assert len(mix("validation", a=section, b=section)) == 8

    train_only = dict(a=section | dict(split="train[:50%]"), b=section)
    assert len(mix(**train_only)) == 4 + 7
    with pytest.raises(UserError, match="part 'a' of the mixture does not say what its split 'validation' is"):
        mix("validation", **train_only)
    each = section | dict(split={"train": "train[:2]", "validation": "train[2:]"})
    assert [len(mix(split, a=each)) for split in ("train", "validation")] == [2, 5]
    with pytest.raises(UserError, match="option of the part 'a' of the mixture 'wieght'; did you mean 'weight'"):
        mix(a=section | dict(wieght=1))
    with pytest.raises(UserError, match="part 'a' of the mixture has no name"):
        mix(a=dict(data_dir="/"))
