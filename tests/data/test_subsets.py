import numpy as np
import pytest

from jaxvision.data import subsets
from jaxvision.errors import UserError

LABELS = np.random.default_rng(0).choice(5, 400, p=[0.4, 0.3, 0.2, 0.08, 0.02])


@pytest.mark.parametrize("seed", [0, 1])
def test_subsets_of_one_seed_are_nested(seed):
    smaller = set()
    for examples in [1, 2, 7, 40, 41, 200, 399, 400]:
        chosen = subsets.subset(LABELS, examples, seed)
        assert len(set(chosen)) == examples
        assert smaller <= set(chosen)
        smaller = set(chosen)


@pytest.mark.parametrize("examples", [1, 4, 5, 12, 100, 250, 399])
def test_classes_are_as_balanced_as_their_sizes_allow(examples):
    available = np.bincount(LABELS, minlength=5)
    taken = np.bincount(LABELS[subsets.subset(LABELS, examples, 0)], minlength=5)
    not_exhausted = taken[taken < available]
    assert taken.max() - not_exhausted.min(initial=taken.max()) <= 1


def test_seeds_choose_different_examples():
    assert set(subsets.subset(LABELS, 50, 0)) != set(subsets.subset(LABELS, 50, 1))


@pytest.mark.parametrize("examples", [0, -1, 401, 2.5, None])
def test_impossible_sizes_are_refused(examples):
    with pytest.raises(UserError, match="400"):
        subsets.subset(LABELS, examples, 0)


def test_a_share_of_every_class_is_held_out_by_name():
    labels = np.repeat([0, 1, 2], [50, 5, 1])
    names = [f"IMG_{i}.jpg" for i in range(56)]
    chosen = subsets.held_out(labels, names, 0.2, seed=0)
    assert np.bincount(labels[chosen], minlength=3).tolist() == [10, 1, 0]
    order = np.random.default_rng(0).permutation(56)
    shuffled = subsets.held_out(labels[order], [names[i] for i in order], 0.2, seed=0)
    assert (chosen[order] == shuffled).all()  # whatever the order of the files
    assert not (chosen == subsets.held_out(labels, names, 0.2, seed=1)).all()
    more = subsets.held_out(np.append(labels, 0), [*names, "new.jpg"], 0.2, seed=0)
    assert (chosen != more[:56]).sum() <= 1  # an image that is added moves one at most
    everything = subsets.held_out(np.array([0, 0]), ["a", "b"], 1.0, seed=0)
    assert everything.sum() == 1


def test_the_two_parts_of_a_set_have_nothing_in_common(pictures):
    rest = subsets.take(pictures, hold_out=0.25, seed=0)
    held = subsets.take(pictures, hold_out=0.25, part="held_out", seed=0)
    weights = [{part[i]["weight"] for i in range(len(part))} for part in (rest, held)]
    assert not weights[0] & weights[1]
    assert len(weights[0] | weights[1]) == len(pictures)
    assert np.bincount(held.labels).tolist() == [2, 2, 2]
    size = lambda part: subsets.subset_size(3, hold_out=0.25, part=part, of=len(pictures))
    assert (size("rest"), size("held_out")) == (len(rest), len(held))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(hold_out=0.2, examples=3), "give one of them"),
        (dict(hold_out=0.2, part="train"), "unknown value of 'part' of a subset 'train'"),
        (dict(examples=3, part="held_out"), "goes with 'hold_out'"),
        (dict(fold="2/5", hold_out=0.2), "give one of them"),
        (dict(fold="0/5"), "folds are counted from 1"),
        (dict(fold="6/5"), "folds are counted from 1"),
        (dict(fold="1/1"), "there are two at least"),
        (dict(fold="second"), "a text like '2/5'"),
        (dict(fold="1/1000"), "1000 folds cannot be made"),
    ],
)
def test_mistakes_in_what_is_held_out(pictures, options, message):
    with pytest.raises(UserError, match=message):
        subsets.take(pictures, **options)


def test_nothing_can_be_held_out_of_single_images(pictures):
    few = subsets.take(pictures, per_class=1)
    with pytest.raises(UserError, match="no class has two of them"):
        subsets.take(few, hold_out=0.5, part="held_out")


def test_take_gives_a_source(pictures):
    part = subsets.take(pictures, 6, seed=0)
    assert len(part) == part.info.num_examples == 6
    assert sorted(part.labels) == [0, 0, 1, 1, 2, 2]
    assert [part[i]["label"] for i in range(6)] == part.labels.tolist()
    assert part.describe(0) == pictures.describe(int(part[0]["weight"] * 2))


def test_take_from_a_set_without_classes(pictures):
    pictures.info = pictures.info._replace(num_classes=None)
    assert len(subsets.take(pictures, 5, seed=0)) == 5


def test_take_from_a_multi_label_set_is_uniformly_random(pictures):
    pictures.info = pictures.info._replace(multi_label=True)
    part = subsets.take(pictures, 6, seed=0)
    assert len(part) == 6
    assert part.info.multi_label
    weights = [part[i]["weight"] for i in range(6)]
    pictures.info = pictures.info._replace(multi_label=False, num_classes=None)
    assert weights == [e["weight"] for e in map(subsets.take(pictures, 6, seed=0).__getitem__, range(6))]


def test_so_many_of_every_class(pictures):
    part = subsets.take(pictures, per_class=4, seed=1)
    assert sorted(part.labels) == [0] * 4 + [1] * 4 + [2] * 4
    images = lambda source: {source[i]["image"] for i in range(len(source))}
    assert images(part) == images(subsets.take(pictures, 12, seed=1))
    assert images(part) < images(subsets.take(pictures, per_class=5, seed=1))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (dict(examples=6, per_class=2), "give one of them"),
        ({}, "give one of them"),
        (dict(per_class=0), "at least 1, not 0"),
        (dict(per_class=1.5), "not 1.5"),
        (dict(per_class=8), "pictures train: the class 'c' has 7 examples"),
    ],
)
def test_subsets_that_cannot_be(pictures, wanted, message):
    with pytest.raises(UserError, match=message):
        subsets.take(pictures, **wanted, seed=0)


@pytest.mark.parametrize(
    ("change", "message"), [(dict(num_classes=None), "names none"), (dict(multi_label=True), "has several")]
)
def test_so_many_of_every_class_needs_one_class_an_image(pictures, change, message):
    pictures.info = pictures.info._replace(**change)
    with pytest.raises(UserError, match=message):
        subsets.take(pictures, per_class=2, seed=0)


@pytest.mark.parametrize("examples", [1, 2, 7, 13])
def test_an_unfinished_round_favours_no_class(examples):
    """Five classes of 160 to 8 examples: over seeds each is as often among those taken once more."""
    seeds = 600
    taken = np.zeros(5)
    for seed in range(seeds):
        taken += np.bincount(LABELS[subsets.subset(LABELS, examples, seed)], minlength=5) - examples // 5
    share = examples % 5 / 5
    assert (abs(taken - seeds * share) < 4 * np.sqrt(seeds * share * (1 - share))).all(), taken


def test_after_a_class_has_run_out_the_others_share_evenly():
    labels = np.repeat([0, 1, 2], [500, 60, 2])
    taken = np.zeros(3)
    for seed in range(400):
        taken += np.bincount(labels[subsets.subset(labels, 21, seed)], minlength=3)
    assert taken[2] == 2 * 400
    assert abs(taken[0] - taken[1]) < 4 * np.sqrt(400)  # the last of 19 by lot


def test_whole_rounds_hold_the_examples_they_held():
    """Counted from the permutation of the seed alone, as subsets in use were."""
    for seed in (0, 3):
        shuffled = np.random.default_rng(seed).permutation(400)
        expected = np.concatenate([shuffled[LABELS[shuffled] == k][:4] for k in range(5)])
        np.testing.assert_array_equal(subsets.subset(LABELS, 20, seed), np.sort(expected))


@pytest.mark.parametrize("count", [2, 3, 5, 10, 400])
@pytest.mark.parametrize("classes", [1, 5])
def test_folds_are_disjoint_balanced_and_cover_the_set(count, classes):
    labels, names = LABELS % classes, [f"IMG_{i}.jpg" for i in range(400)]
    dealt = subsets.folds(labels, names, count, seed=0)
    sizes = np.bincount(dealt, minlength=count)
    assert sizes.sum() == 400
    assert np.ptp(sizes) <= 1
    for label in range(classes):
        assert np.ptp(np.bincount(dealt[labels == label], minlength=count)) <= 1
    order = np.random.default_rng(0).permutation(400)
    assert (dealt[order] == subsets.folds(labels[order], [names[i] for i in order], count, seed=0)).all()
    assert not (dealt == subsets.folds(labels, names, count, seed=1)).all()


def test_the_parts_of_the_folds_of_a_set(pictures):
    n, seen = len(pictures), []
    for number in (1, 2, 3, 4, 5):
        rest, held = (subsets.take(pictures, fold=f"{number}/5", part=part, seed=3) for part in (None, "held_out"))
        assert sorted([*rest._indices, *held._indices]) == list(range(n))
        size = lambda part, number=number: subsets.subset_size(3, fold=f"{number}/5", part=part, of=n)
        assert (size("rest"), size("held_out")) == (len(rest), len(held))
        seen += held._indices.tolist()
    assert sorted(seen) == list(range(n))  # every example is held out once
