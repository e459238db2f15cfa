"""The evaluator `zeroshot` against a loop over images, prompts and classes."""

import json

import jax
import numpy as np
import pytest

from jaxvision.data.text import class_names, imagenet, prompts
from jaxvision.errors import UserError
from jaxvision.evals import retrieval, zeroshot
from jaxvision.evals.store import Store

NAMES = ("cat", "polar_bear", "dog", "cow", "owl", "ant", "hen")
WORDS = ("cat", "polar bear", "dog", "cow", "owl", "ant", "hen")


def animals(pairs, n=45, classes=NAMES, seed=0):
    labels = np.random.default_rng(seed).integers(0, len(classes), n)
    return pairs.Pairs(["an animal"] * n, labels, classes, seed)


def naive(pairs, source, templates, words):
    """The class of each image by the mean of its prompts, and by each prompt alone."""
    codes = np.array([[pairs.text_embedding(t.replace("{}", word)) for word in words] for t in templates])  # t k d
    mean = codes.mean(axis=0)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    images = pairs.image_embeddings(source)
    single = [[int(np.argmax([c @ x for c in head])) for x in images] for head in codes]
    ordered = [sorted(range(len(words)), key=lambda k, x=x: -float(mean[k] @ x)) for x in images]
    return ordered, single


@pytest.mark.parametrize("devices", [1, 8])
def test_accuracies_are_those_of_a_naive_loop(pairs, mesh, devices):
    source = animals(pairs)
    metrics = zeroshot.make_zeroshot(**pairs.open_set(source, mesh(devices)), prompts=("photo", "clip7"))(
        pairs.VARIABLES
    )
    for name in ("photo", "clip7"):
        of_set = prompts.get_prompts(name)
        ordered, single = naive(pairs, source, of_set.templates, WORDS)
        protocol = f"zeroshot_{of_set.name}"
        assert metrics[f"{protocol}/top1"] == pytest.approx(np.mean([o[0] == y for o, y in zip(ordered, source.true)]))
        assert metrics[f"{protocol}/top5"] == pytest.approx(np.mean([y in o[:5] for o, y in zip(ordered, source.true)]))
        each = [np.mean([o[0] == y for o, y in zip(ordered, source.true) if y == k]) for k in range(len(NAMES))]
        assert metrics[f"{protocol}/mean_class"] == pytest.approx(np.mean(each))
    accuracies = [np.mean(row == source.true) for row in single]  # of clip7
    assert metrics["zeroshot_clip7_v1/prompt_mean"] == pytest.approx(np.mean(accuracies))
    assert metrics["zeroshot_clip7_v1/prompt_std"] == pytest.approx(np.std(accuracies, ddof=1))
    assert metrics["zeroshot_clip7_v1/prompt_min"] == pytest.approx(min(accuracies))
    assert metrics["zeroshot_clip7_v1/prompt_max"] == pytest.approx(max(accuracies))
    assert metrics["examples"] == 45
    assert len(metrics) == 3 + 7 + 1


def test_prompts_are_averaged_as_directions():
    """A long embedding counts no more than a short one, and the mean has length 1."""
    embeddings = np.array([[[3.0, 0.0], [0.0, 1.0]], [[0.0, 0.5], [0.0, 7.0]]])
    single, mean = zeroshot.classifiers(embeddings)
    np.testing.assert_allclose(np.linalg.norm(single, axis=2), 1, rtol=1e-6)
    np.testing.assert_allclose(mean, [[2**-0.5, 2**-0.5], [0, 1]], rtol=1e-6)


def test_candidates_of_a_subset(pairs, mesh):
    """Images of other classes are left out, and no other class can be chosen."""
    source = animals(pairs)
    metrics = zeroshot.make_zeroshot(**pairs.open_set(source, mesh(1)), prompts=("photo",), only=("dog", "ant", "hen"))(
        pairs.VARIABLES
    )
    ordered, _ = naive(pairs, source, prompts.get_prompts("photo").templates, ("dog", "ant", "hen"))
    right = [(2, 5, 6)[o[0]] == y for o, y in zip(ordered, source.true) if y in (2, 5, 6)]
    (top1,) = (key for key in metrics if key.endswith("top1"))
    assert top1.startswith("zeroshot_photo_v1_only_")
    assert metrics[top1] == pytest.approx(np.mean(right))
    assert metrics["examples"] == len(right)


def test_other_names_are_part_of_the_protocol(pairs, mesh):
    source, words = animals(pairs), ("a", "b", "c", "d", "e", "f", "g")
    metrics = zeroshot.make_zeroshot(**pairs.open_set(source, mesh(1)), prompts=("class_name",), classes=words)(
        pairs.VARIABLES
    )
    ordered, _ = naive(pairs, source, ("{}",), words)
    (top1,) = (key for key in metrics if key.endswith("top1"))
    assert top1.startswith("zeroshot_class_name_v1_names_")
    assert metrics[top1] == pytest.approx(np.mean([o[0] == y for o, y in zip(ordered, source.true)]))


def test_folders_of_imagenet_are_named_as_by_clip(pairs, mesh):
    wnids = ("n01443537", "n02099601", "n07749582")
    source = animals(pairs, classes=wnids)
    metrics = zeroshot.make_zeroshot(**pairs.open_set(source, mesh(1)), prompts=("photo",), only="imagenet_r")(
        pairs.VARIABLES
    )
    ordered, _ = naive(pairs, source, ("a photo of a {}.",), ("goldfish", "Golden Retriever", "lemon"))
    assert {imagenet.WNIDS.index(wnid) for wnid in wnids} <= set(imagenet.RENDITION)
    assert metrics["zeroshot_photo_v1_only_imagenet_r/top1"] == pytest.approx(
        np.mean([o[0] == y for o, y in zip(ordered, source.true)])
    )


def test_the_report_holds_confusions(pairs, mesh, tmp_path):
    source = animals(pairs)
    zeroshot.make_zeroshot(**pairs.open_set(source, mesh(8)), prompts=("clip7",), report=str(tmp_path / "new"))(
        pairs.VARIABLES
    )
    (file,) = (tmp_path / "new").iterdir()
    assert file.name == "zeroshot_clip7_v1.json"
    report = json.loads(file.read_text())
    ordered, single = naive(pairs, source, prompts.get_prompts("clip7").templates, WORDS)
    for k, row in enumerate(report["classes"]):
        chosen = [WORDS[o[0]] for o, y in zip(ordered, source.true) if y == k]
        assert row["class"] == WORDS[k]
        assert row["images"] == len(chosen)
        assert row["accuracy"] == pytest.approx(chosen.count(WORDS[k]) / len(chosen))
        assert row["taken_for"] == {w: chosen.count(w) for w in set(chosen) - {WORDS[k]}}
    assert list(report["prompts"].values()) == pytest.approx([np.mean(row == source.true) for row in single])


def test_classes_of_one_name_are_told_apart_in_the_report(pairs, mesh, tmp_path):
    source = animals(pairs, classes=("missile", "cat", "missile"))
    zeroshot.make_zeroshot(**pairs.open_set(source, mesh(1)), prompts=("photo",), report=str(tmp_path))(pairs.VARIABLES)
    rows = json.loads((tmp_path / "zeroshot_photo_v1.json").read_text())["classes"]
    assert [row["class"] for row in rows] == ["missile (0)", "cat", "missile (2)"]
    assert rows[2]["accuracy"] == 0  # of equal cosines the first class counts
    assert rows[2]["images"] == sum(rows[2]["taken_for"].values())


def test_features_that_another_evaluator_kept_without_labels(pairs, mesh):
    store, source = Store(), animals(pairs)
    kept = dict(mesh=mesh(1), store=store, identity={"name": "pairs"})
    retrieval.make_retrieval(**pairs.open_set(source, fields=("image",), **kept))(pairs.VARIABLES)
    metrics = zeroshot.make_zeroshot(**pairs.open_set(source, **kept), prompts=("photo",))(pairs.VARIABLES)
    assert metrics == zeroshot.make_zeroshot(**pairs.open_set(source, mesh(1)), prompts=("photo",))(pairs.VARIABLES)


def test_images_without_a_label_are_left_out(pairs, mesh):
    source = animals(pairs)
    expected = zeroshot.make_zeroshot(**pairs.open_set(source, mesh(1)), prompts=("photo",))(pairs.VARIABLES)
    source.true[:] = np.where(source.true == 6, -1, source.true)
    metrics = zeroshot.make_zeroshot(**pairs.open_set(source, mesh(1)), prompts=("photo",))(pairs.VARIABLES)
    assert metrics["examples"] == expected["examples"] - (source.true == -1).sum()


def test_embeddings_that_are_no_numbers_are_never_right(pairs, mesh):
    metrics = zeroshot.make_zeroshot(**pairs.open_set(animals(pairs), mesh(1)), prompts=("photo",))(pairs.BROKEN)
    assert metrics["zeroshot_photo_v1/top1"] == metrics["zeroshot_photo_v1/top5"] == 0


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (lambda pairs: pairs.Pairs([""] * 5), {}, "needs one class for each image"),
        (animals, dict(prompts="photo"), "must be a tuple"),
        (animals, dict(prompts=("clip8",)), "did you mean 'clip7'|did you mean 'clip80'"),
        (animals, dict(classes=("a", "b")), "2 names are given, but pairs test has 7 classes"),
        (animals, dict(only=("cats",)), "did you mean 'cat'"),
        (animals, dict(only="imagnet_a"), "unknown set of classes .* did you mean 'imagenet_a'"),
        (animals, dict(classes="absent.txt"), "no file of class names absent.txt"),
        (animals, dict(only="imagenet_a"), "wants the 1,000 labels of ImageNet"),
        (animals, dict(only="objectnet"), "none of the classes"),
    ],
)
def test_options_that_make_no_sense(pairs, mesh, source, options, message):
    source = source(pairs)
    fields = ("image",) if source.true is None else ("image", "label")
    with pytest.raises(UserError, match=message):
        zeroshot.make_zeroshot(**pairs.open_set(source, mesh(1), fields), **options)


def test_embeddings_that_are_no_numbers_are_of_no_class():
    images = np.array([[1, 0], [0, 1], [np.nan, 0]], np.float32)
    mesh = jax.make_mesh((1, 1, 1), ("data", "fsdp", "tensor"), devices=jax.devices()[:1])
    labels = np.array([0, 1, 0])
    ranks, predicted = zeroshot.judge_classifiers(images, labels, np.eye(2, dtype=np.float32)[None], mesh)
    assert predicted.tolist() == [[0, 1, -1]]
    assert (ranks == 0).tolist() == [[True, True, False]]
    chosen = class_names.Classes((0, 1), ("a", "b"), "")
    details = zeroshot.report_details(ranks, predicted, labels, chosen, prompts.get_prompts("photo"))
    assert details["not_numbers"] == 1
    rows = [(row["images"], row["accuracy"], row["taken_for"]) for row in details["classes"]]
    assert rows == [(2, 0.5, {}), (1, 1.0, {})]
