"""Captions made of class names, and images with several captions."""

import numpy as np
import pytest

from jaxvision.data import host_ops, resident, text, train_batches
from jaxvision.data.sources import Info
from jaxvision.errors import UserError

CLASSES = ("cat", "polar_bear", "owl")


def run(spec, example, classes=CLASSES, seed=0):
    return host_ops.make_chain(spec, classes)(example, np.random.default_rng(seed))


def words(tokens):
    """The text of tokens of `bytes`."""
    return bytes((tokens[tokens > 2] - 3).tolist()).decode()


def test_captions_are_the_templates_with_the_name_of_the_class():
    example = run("class_captions(('a {}.', 'many {}s, a {}.'))", {"label": 1, "weight": 2})
    assert example["text"] == ("a polar bear.", "many polar bears, a polar bear.")
    assert (example["label"], example["weight"]) == (1, 2)
    assert run("class_captions", {"label": np.int32(2)})["text"] == ("owl",)
    assert run("class_captions('{1} {}')", {"label": 0})["text"] == ("{1} cat",)  # no other braces are read
    assert run("class_captions", {"label": 0}, ("n01443537",))["text"] == ("goldfish",)


def test_sets_of_prompts_are_known_by_name():
    captions = run("class_captions(('clip7', 'photo', 'my {}', 'itap of a {}.'))", {"label": 0})["text"]
    assert len(captions) == 7 + 1 + 1
    assert captions[0] == "itap of a cat."
    assert captions[-2:] == ("a photo of a cat.", "my cat")


def test_names_stand_for_those_of_the_set(tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("tabby cat\nice_bear\n\nowl\n")
    assert run(f"class_captions('a {{}}', names={str(file)!r})", {"label": 1})["text"] == ("a ice_bear",)
    assert run("class_captions(names=('x', 'y'))", {"label": 1}, classes=())["text"] == ("y",)


@pytest.mark.parametrize(
    ("spec", "example", "classes", "message"),
    [
        ("class_captions('clip8')", {}, CLASSES, "unknown set of prompts .* 'clip8'; did you mean 'clip80'"),
        ("class_captions(())", {}, CLASSES, "no prompts"),
        ("class_captions(names='absent.txt')", {}, CLASSES, "no file of class names absent.txt"),
        ("class_captions", {"text": "a"}, CLASSES, "needs examples with one class each"),
        ("class_captions", {"label": np.ones(3)}, CLASSES, "needs examples with one class each"),
        ("class_captions", {"label": -1}, CLASSES, "needs examples with one class each"),
        ("class_captions", {"label": 1}, (), "does not name its classes; give names="),
        ("class_captions(names=('x',))", {"label": 1}, CLASSES, "1 names are given, but there is a class 1"),
        ("tokenize(caption='all')", {}, (), "captions is a number"),
        ("tokenize(captions=3)", {}, (), "captions is a number"),
    ],
)
def test_wrong_use(spec, example, classes, message):
    with pytest.raises(UserError, match=message):
        run(spec, example, classes)


def test_one_template_is_drawn_in_training_and_the_first_taken_in_evaluation():
    spec = "class_captions(('a {}', 'b {}', 'c {}'))|tokenize('bytes', 20)"
    drawn = [words(run(spec, {"label": 0}, seed=seed)["tokens"]) for seed in range(60)]
    assert set(drawn) == {"a cat", "b cat", "c cat"}
    evaluation = host_ops.host_ops.evaluation(spec)
    assert {words(run(evaluation, {"label": 0}, seed=seed)["tokens"]) for seed in range(9)} == {"a cat"}


@pytest.mark.parametrize("captions", [1, 2, 4])
def test_all_captions_are_kept_and_filled_up(captions):
    spec = f"tokenize('bytes', 8, caption='all', captions={captions})"
    example = run(spec, {"text": ("one", "three")})
    assert example["tokens"].shape == example["tokens_mask"].shape == (captions, 8)
    assert [words(row) for row in example["tokens"]] == ["one", "three", "", ""][:captions]
    assert example["tokens_mask"].any(axis=1).tolist() == [True, True, False, False][:captions]
    assert not host_ops.host_ops.is_random(spec)
    assert "caption='all'" in host_ops.host_ops.evaluation(spec)


def test_a_labelled_set_is_read_as_image_and_caption(pictures):
    pictures.info = Info("pictures", "train", len(pictures), CLASSES, 3)
    spec = "decode|resize(4)|class_captions('a {}')|tokenize(length=16)"
    fields = ("image", "label", "tokens", "tokens_mask")
    (batch,) = train_batches(pictures, spec, batch_size=8, seed=0, start=0, stop=1, fields=fields)
    names = [f"a {CLASSES[label].replace('_', ' ')}" for label in batch["label"]]
    assert [words(row) for row in batch["tokens"]] == names
    assert batch["tokens"].dtype == np.int32


def test_tokens_without_a_tokenizer(pictures):
    with pytest.raises(UserError, match="'tokens' is made by tokenize: add tokenize to the host spec"):
        resident.fits(pictures, "decode|resize(4)", 1, ("image", "tokens"))


def test_what_a_set_held_in_memory_weighs_includes_its_tokens(pictures):
    spec, fields = "decode|resize(4)|class_captions|tokenize(length=16, caption='all', captions=2)", ("image", "tokens")
    size = len(pictures) * (4 * 4 * 3 + 2 * 16 * 4)
    assert resident.fits(pictures, spec, size, fields)
    assert not resident.fits(pictures, spec, size - 1, fields)


@pytest.mark.parametrize(
    ("fields", "host", "stored"),
    [
        (("image", "tokens", "tokens_mask"), "decode|tokenize('bytes')", ["image", "text"]),
        (("image", "label", "tokens"), "decode|class_captions('a {}')|tokenize", ["image", "label"]),
        (("image", "tokens"), "tokenize(field='title')|class_captions", ["image", "title", "label"]),
    ],
)
def test_fields_that_the_source_must_have(fields, host, stored):
    assert text.sources_of(fields, host) == stored


def test_stand_ins_make_the_same_shapes_without_files():
    host = "decode|class_captions(names='absent')|tokenize('clip', 9, path='absent', caption='all', captions=2)"
    example = {"image": np.zeros((4, 4, 3), np.uint8), "label": 0, host_ops.CLASS_NAME: "cat"}
    example = run(text.stand_in(host), example, ())
    assert example["tokens"].shape == example["tokens_mask"].shape == (2, 9)


def test_images_alone_go_through_a_spec_without_its_text_operations():
    host = "decode|resize(4)|class_captions('a {}')|tokenize('bytes', caption='first')|central_crop(2)"
    assert text.images_only(host) == "decode|resize(4)|central_crop(2)"
