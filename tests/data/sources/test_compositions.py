"""Scenes of `shapes` of which some pairs of colour and kind are held out."""

from collections import Counter

import numpy as np
import pytest

from jaxvision.data import open_source, shapes, shapes_scene, subsets
from jaxvision.data.sources import compositions
from jaxvision.errors import UserError

N = 120


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    cache = tmp_path_factory.mktemp("shapes")
    shapes.prepare_shapes(cache, train=N, validation=4, test=4)
    sizes = dict(train=N, validation=4, test=4)

    def make(split="train", fields=None, **options):
        return open_source("shapes", split, data_dir=str(cache), options=sizes | options, fields=fields)

    return make


def pairs(index):
    """(colour, kind) of the objects of a scene, by their names."""
    return [(o.colour, o.kind) for o in shapes_scene.sample("train", index).objects]


def is_held_out(colour, kind):
    return compositions.held_out(shapes.COLOURS.index(colour), shapes.CLASSES.index(kind))


def test_each_colour_and_each_kind_is_in_two_pairs_that_are_held_out():
    kept = [(c, k) for c in shapes.COLOURS for k in shapes.CLASSES if is_held_out(c, k)]
    for side in zip(*kept, strict=True):
        assert set(Counter(side).values()) == {2}


def test_seen_scenes_show_no_held_out_pair_and_their_captions_name_none(opened):
    source = opened(scenes="seen", text="caption")
    expected = [i for i in range(N) if not any(is_held_out(*pair) for pair in pairs(i))]
    whole = opened(text="caption")
    assert len(source) == source.info.num_examples == len(expected) > 20
    assert [source[i]["text"] for i in range(len(source))] == [whole[i]["text"] for i in expected]
    unseen = [f"{c} {k}" for c in shapes.COLOURS for k in shapes.CLASSES if is_held_out(c, k)]
    assert not any(pair in source[i]["text"] for i in range(len(source)) for pair in unseen)


def test_held_out_scenes_are_those_whose_main_object_is_of_a_held_out_pair(opened):
    source = opened(scenes="held_out", label="pair")
    expected = [" ".join(pairs(i)[0]) for i in range(N) if is_held_out(*pairs(i)[0])]
    assert [source.info.classes[source[i]["label"]] for i in range(len(source))] == expected
    np.testing.assert_array_equal(source.labels, [source[i]["label"] for i in range(len(source))])


@pytest.mark.parametrize(("label", "position", "count"), [("colour", 0, 10), ("kind", 1, 10), ("pair", None, 100)])
def test_labels_tell_the_main_object(opened, label, position, count):
    source = opened("train[10:50]", label=label, fields=("image", "label"))
    assert source.info.num_classes == len(source.info.classes) == count
    for i in (0, 7, 39):
        words = pairs(10 + i)[0]
        wanted = " ".join(words) if position is None else words[position]
        assert source.info.classes[source[i]["label"]] == wanted
        assert set(source[i]) == {"image", "label"}


def test_subsets_are_balanced_over_the_labels_asked_for(opened):
    source = subsets.take(opened(label="colour"), examples=10, seed=0)
    assert sorted(source.labels) == list(range(10))


def test_wrong_options(opened):
    with pytest.raises(UserError, match="unknown label of shapes 'color'; did you mean 'colour'"):
        opened(label="color")
    with pytest.raises(UserError, match="unknown choice of scenes of shapes 'unseen'; did you mean 'seen'"):
        opened(scenes="unseen")
    with pytest.raises(UserError, match="has no scenes that are 'held_out'"):
        opened("train[:1]", scenes="held_out" if not is_held_out(*pairs(0)[0]) else "seen")
