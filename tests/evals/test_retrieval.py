"""The evaluator `retrieval` against sorting."""

import numpy as np
import pytest

from jaxvision.data.sources.base import BadExample
from jaxvision.errors import UserError
from jaxvision.evals import retrieval

RNG = np.random.default_rng(3)
SENTENCES = [f"number {i}" for i in range(23)]
REPEATED = [tuple(RNG.choice(SENTENCES, RNG.integers(1, 4))) for _ in range(37)]  # texts repeat
LABELS = RNG.integers(0, 4, 37)


def naive(pairs, source, by):
    """Places of the first right answer, of each text among images and of each image among texts."""
    texts = list(dict.fromkeys(text for several in source.captions for text in several))
    images = pairs.image_embeddings(source)
    cosines = np.array([[pairs.text_embedding(text) @ image for image in images] for text in texts])

    def right(text, image):
        if by == "text":
            return text in source.captions[image]
        return any(text in source.captions[i] for i in range(len(images)) if source.true[i] == source.true[image])

    def place(scores, is_right):
        order = sorted(range(len(scores)), key=lambda j: -scores[j])
        return next(i for i, j in enumerate(order) if is_right(j))

    of_texts = [place(row, lambda i, text=text: right(text, i)) for text, row in zip(texts, cosines)]
    of_images = [place(row, lambda j, i=i: right(texts[j], i)) for i, row in enumerate(cosines.T)]
    return of_texts, of_images


@pytest.mark.parametrize(("devices", "chunk"), [(1, 256), (1, 5), (8, 7)])
def test_recalls_and_ranks_are_those_of_sorting(pairs, mesh, devices, chunk):
    source = pairs.Pairs(REPEATED, LABELS, "abcd")
    opened = pairs.open_set(source, mesh(devices), ("image",))
    metrics = retrieval.make_retrieval(**opened, by=("text", "class"), k=(1, 5, 30), chunk=chunk)(pairs.VARIABLES)
    for by, suffix in (("text", ""), ("class", "_class")):
        of_texts, of_images = naive(pairs, source, by)
        for way, places in (("text_to_image", of_texts), ("image_to_text", of_images)):
            for k in (1, 5):
                assert metrics[f"{way}{suffix}/recall{k}"] == pytest.approx(np.mean(np.array(places) < k)), (way, by, k)
            assert metrics[f"{way}{suffix}/median_rank"] == np.median(places) + 1
    assert "text_to_image/recall30" in metrics  # of 37 images
    assert "image_to_text/recall30" not in metrics  # of fewer texts
    assert (metrics["images"], metrics["texts"]) == (37, len(set(sum(REPEATED, ()))))


def test_a_repeated_caption_is_right_for_every_image_that_has_it():
    images, texts = retrieval.right_answers([("a", "b"), ("b",), ("c",)], ["a", "b", "c"], np.arange(3))
    assert [x.tolist() for x in images] == [[0], [0, 1], [2]]
    assert [x.tolist() for x in texts] == [[0, 1], [1], [2]]
    images, texts = retrieval.right_answers([("a",), ("b",), ("c",)], ["a", "b", "c"], np.array([0, 7, 0]))
    assert [x.tolist() for x in images] == [[0, 2], [1], [0, 2]]
    assert [x.tolist() for x in texts] == [[0, 2], [1], [0, 2]]


@pytest.mark.parametrize("devices", [1, 8])
def test_a_model_that_says_the_same_of_all_finds_no_more_than_chance(mesh, devices):
    same = np.ones((10, 3), np.float32)
    places = retrieval.first_right(same, same, [np.array([i]) for i in range(10)], 4, mesh(devices))
    np.testing.assert_array_equal(places, np.arange(10))  # by position, not all first


def test_embeddings_that_are_no_numbers_find_nothing(pairs, mesh):
    metrics = retrieval.make_retrieval(**pairs.open_set(pairs.Pairs(REPEATED), mesh(1), ("image",)))(pairs.BROKEN)
    assert metrics["text_to_image/recall10"] == metrics["image_to_text/recall10"] == 0
    assert metrics["text_to_image/median_rank"] == 38


def test_an_image_without_captions_is_left_out(pairs, mesh):
    source = pairs.Pairs([("one",), (), ("two",)])
    metrics = retrieval.make_retrieval(**pairs.open_set(source, mesh(1), ("image",)))(pairs.VARIABLES)
    assert (metrics["images"], metrics["texts"]) == (2, 2)


def test_a_first_example_that_lacks_its_caption_is_left_out(pairs, mesh, caplog):
    captions = [("one",), ("two",), "", ("three",)]

    class Lacking(pairs.Pairs):
        def __getitem__(self, i):
            if not i:
                raise BadExample("it has no text member")
            return super().__getitem__(i)

    opened = pairs.open_set(Lacking(captions), mesh(1), ("image",))
    metrics = retrieval.make_retrieval(**opened)(pairs.VARIABLES)
    assert (metrics["images"], metrics["texts"]) == (2, 2)
    assert caplog.text.count("it has no text member") == 1
    opened = pairs.open_set(pairs.Pairs(["", ()]), mesh(1), ("image",))
    with pytest.raises(UserError, match="has no captions .*example 0 of pairs test: .* holds no caption"):
        retrieval.make_retrieval(**opened)(pairs.VARIABLES)


def test_numbers_of_numpy(pairs, mesh):
    opened = pairs.open_set(pairs.Pairs(REPEATED), mesh(1), ("image",))
    plain = retrieval.make_retrieval(**opened, k=(5,))(pairs.VARIABLES)
    assert retrieval.make_retrieval(**opened, k=(np.int64(5),), chunk=np.int32(256))(pairs.VARIABLES) == plain


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(by=("word",)), "unknown value of by"),
        (dict(by="text"), "by must be a tuple"),
        (dict(by=()), "by must be a tuple"),
        (dict(by=("class",)), "needs one class for each image"),
        (dict(k=()), "k and chunk must be"),
        (dict(chunk=0), "k and chunk must be"),
    ],
)
def test_options_that_make_no_sense(pairs, mesh, options, message):
    with pytest.raises(UserError, match=message):
        retrieval.make_retrieval(**pairs.open_set(pairs.Pairs(REPEATED), mesh(1), ("image",)), **options)


def test_a_set_without_captions_is_an_error_before_anything_is_computed(pairs, mesh):
    opened = pairs.open_set(pairs.Pairs(REPEATED), mesh(1), ("image",))
    with pytest.raises(UserError, match="reads captions in the field 'caption'"):
        retrieval.make_retrieval(**opened | dict(texts=opened["texts"]._replace(field="caption")))
