"""`jaxvision search` and `jaxvision predict --labels` with a tiny model of image and text, and its evaluations."""

import json
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

import jaxvision
from jaxvision import cli
from jaxvision.commands import convert, evaluate, photos, predict, search, train, visualize
from jaxvision.data import text
from jaxvision.errors import UserError


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, data_cache):
    """The workdir and the results of two steps."""
    c = ConfigDict()
    c.seed = 0
    c.data = dict(
        name="shapes",
        options=dict(image_size=32, train=80, validation=24, test=8, text="caption"),
        split="train",
        batch_size=16,
        host="decode|tokenize('bytes', 32)",
        fields=("image", "tokens", "tokens_mask"),
    )
    c.augment = "normalize(0.5, 0.5)"
    text = dict(name="text_transformer", width=16, depth=1, num_heads=2, vocab_size=259, length=32, end_token=2)
    c.model = dict(name="two_towers", image=dict(name="resnet", variant="8", width=0.25), text=text, embedding=16)
    c.task = dict(name="image_text")
    c.optimizer = dict(name="adamw", learning_rate=1e-3)
    c.train = dict(total="2 steps")
    c.evals = dict(
        zero=dict(name="zeroshot", prompts=("photo",), sets=dict(a=dict(split="validation"), b=dict(split="test"))),
        find=dict(name="retrieval", split="validation"),
    )
    workdir = tmp_path_factory.mktemp("runs") / "pairs"
    return workdir, train.run_train(c, workdir, quiet=True)


@pytest.fixture
def pictures(tmp_path):
    """A folder with twelve pictures and a file that is none."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for i in range(12):
        path = folder / ("more" if i > 5 else "") / f"{i:02d}.png"
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    (folder / "broken.png").write_bytes(b"nothing")
    return folder


def test_one_entry_judges_several_sets(pretrained):
    results = pretrained[1]
    assert results["zero/a/examples"] == 24
    assert results["zero/b/examples"] == 8
    assert 0 <= results["zero/a/zeroshot_photo_v1/top1"] <= 1
    assert results["find/images"] == 24
    assert 0 <= results["find/text_to_image/recall1"] <= 1


def test_every_entry_has_its_own_reports(pretrained, tmp_path):
    sets = dict(a=dict(split="validation"), b=dict(split="validation[:9]"))
    zero = dict(name="zeroshot", prompts=("photo",), report=str(tmp_path), sets=sets)
    evaluate.run_evaluate(pretrained[0], evals={"zero": zero})
    reports = [json.loads((tmp_path / "zero" / of / "zeroshot_photo_v1.json").read_text()) for of in "ab"]
    assert [sum(row["images"] for row in report["classes"]) for report in reports] == [24, 9]


def test_a_probe_reads_no_texts(pretrained):
    """Other evaluators work on the features of the image tower."""
    near = dict(name="knn", split="validation", train_split="train", k=(5,))
    assert "near/knn5_t0.07/top1" in evaluate.run_evaluate(pretrained[0], evals={"near": near})


def test_an_evaluator_of_texts_needs_a_tokenizer(trained):
    with pytest.raises(UserError, match=r"evals.zero: the evaluator 'zeroshot' needs a tokenizer"):
        evaluate.run_evaluate(trained[0], evals={"zero": dict(name="zeroshot", split="validation")})


def test_classes_in_the_words_of_the_user(pretrained, pictures, capsys):
    predictions = predict.run_predict(pretrained[0], str(pictures / "*.png"), labels="a red circle, a dog,nothing")
    model = jaxvision.load(pretrained[0])
    found = model(str(pictures / "*.png"), labels=["a red circle", "a dog", "nothing"], skip=True)
    assert {one.name: one.label for one in found} == {file: ranked[0][0] for file, ranked in predictions.items()}
    assert len(predictions) == 6
    for ranked in predictions.values():
        assert {name for name, _ in ranked} == {"a red circle", "a dog", "nothing"}
        assert sum(p for _, p in ranked) == pytest.approx(1, rel=1e-5)
    assert "broken.png" in capsys.readouterr().err
    prompted = predict.run_predict(
        pretrained[0], str(pictures / "0*.png"), labels="cat,dog", prompts="a photo of a {}."
    )
    spelled = predict.run_predict(pretrained[0], str(pictures / "0*.png"), labels="a photo of a cat.,a photo of a dog.")
    for file in prompted:
        np.testing.assert_allclose([p for _, p in prompted[file]], [p for _, p in spelled[file]], rtol=1e-5)


def test_what_words_cannot_do(trained, pretrained, pictures):
    with pytest.raises(UserError, match="holds a model without classes: for one of image and text, add --labels"):
        predict.run_predict(pretrained[0], str(pictures / "*.png"))
    with pytest.raises(UserError, match="holds no model of image and text"):
        predict.run_predict(trained[0], str(pictures / "*.png"), labels="a,b")
    with pytest.raises(UserError, match="labels must be different words"):
        predict.run_predict(pretrained[0], str(pictures / "*.png"), labels="a,,b")
    for options in (dict(prompts="clip80"), dict(tokenizer="tokenize('bytes')")):
        with pytest.raises(UserError, match="--prompts and --tokenizer need --labels"):
            predict.run_predict(pretrained[0], str(pictures / "*.png"), **options)
    with pytest.raises(UserError, match="'decode' names no tokenizer: give --tokenizer="):
        predict.run_predict(pretrained[0], str(pictures / "*.png"), labels="a,b", tokenizer="decode")
    with pytest.raises(UserError, match="holds no model of image and text"):
        search.run_search(pictures / "index", images=str(pictures / "*.png"), workdir=trained[0])
    assert not (pictures / "index").exists()


def test_converted_weights_give_the_numbers_of_their_run(pretrained, pictures, tmp_path):
    """Those of other libraries do not know their tokenizer, like these once theirs is taken out."""
    path = tmp_path / "weights"
    meta = convert.run_convert(pretrained[0], path)
    shapes = dict(data="shapes", options=dict(image_size=32, train=80, validation=24, test=8))
    sets = dict(a=dict(shapes, split="validation"), b=dict(shapes, split="test"))
    metrics = evaluate.run_evaluate(path, evals={"zero": dict(name="zeroshot", prompts=("photo",), sets=sets)})
    assert metrics == pytest.approx({name: pretrained[1][name] for name in metrics}, rel=1e-4)
    meta["preprocessing"]["host"] = text.images_only(meta["preprocessing"]["host"])
    (path / "meta.json").write_text(json.dumps(meta))
    glob = str(pictures / "00.png")
    with pytest.raises(UserError, match="names no tokenizer: give --tokenizer="):
        predict.run_predict(path, glob, labels="cat,dog")
    with pytest.raises(UserError, match=r"evals.zero/a: the evaluator 'zeroshot' needs a tokenizer"):
        evaluate.run_evaluate(path, evals={"zero": dict(name="zeroshot", sets=sets)})
    (ours,) = predict.run_predict(pretrained[0], glob, labels="cat,dog").values()
    (theirs,) = predict.run_predict(path, glob, labels="cat,dog", tokenizer="tokenize('bytes', 32)").values()
    assert dict(theirs) == pytest.approx(dict(ours), rel=1e-4)


def test_an_index_is_searched_by_words_and_by_an_image(pretrained, pictures, tmp_path, capsys):
    index = tmp_path / "index"
    assert search.run_search(index, images=str(pictures / "**/*.png"), workdir=pretrained[0]) == {}
    assert "12 images in the index, 12 of them new" in capsys.readouterr().err
    matches = search.run_search(index, ["a red circle", "a dog"], top=3)
    model = photos.open_model(pretrained[0])
    images = photos.embed_images(model, sorted(str(p) for p in pictures.rglob("[0-9]*.png")))
    for words, vector in zip(matches, photos.embed_texts(model)(list(matches))):
        best = sorted(images, key=lambda file, v=vector: -float(images[file] @ v))[:3]
        assert [file for file, _ in matches[words]] == best
        np.testing.assert_allclose([c for _, c in matches[words]], [images[f] @ vector for f in best], rtol=1e-4)
    page = Image.open(index / "search.png")
    assert page.height > 2 * 112
    query = str(pictures / "more" / "07.png")
    (ranked,) = search.run_search(index, image=query, top=2, page=tmp_path / "found" / "sheet.png").values()
    assert (tmp_path / "found" / "sheet.png").is_file()
    assert ranked[0][0] == query
    assert ranked[0][1] == pytest.approx(1, abs=1e-5)


def test_an_index_remembers_its_tokenizer(pretrained, pictures, tmp_path):
    index, tokenizer = tmp_path / "index", "tokenize('bytes', 32, lower=True)"
    search.run_search(index, images=str(pictures / "0*.png"), workdir=pretrained[0], tokenizer=tokenizer)
    (small,), (capital,) = (search.run_search(index, [words]).values() for words in ("a dog", "A DOG"))
    assert small == capital
    (matches,) = search.run_search(index, ["A DOG"], tokenizer="tokenize('bytes', 32)").values()
    assert matches != small


def test_words_and_flags_of_the_command_line(monkeypatch):
    calls = {}
    monkeypatch.setattr(
        search, "run_search", lambda *args, **options: calls.update(options, args=args) or search.Results()
    )
    cli.main(["jaxvision", "search", "a red circle", "--index=runs/photos", "a dog", "--top=3", "--sheet=found.png"])
    assert calls["args"] == ("runs/photos", ["a red circle", "a dog"])
    assert (calls["top"], calls["page"], calls["images"], calls["workdir"]) == (3, "found.png", None, None)


def test_only_what_has_changed_is_read_again(pretrained, pictures, tmp_path, capsys):
    index, glob = tmp_path / "index", str(pictures / "**/*.png")
    search.run_search(index, images=glob, workdir=pretrained[0])
    before = np.load(index / "index.npz")["embeddings"]
    Image.new("RGB", (40, 40), "red").save(pictures / "03.png")
    (pictures / "05.png").unlink()
    search.run_search(index, images=glob)
    assert "11 images in the index, 1 of them new" in capsys.readouterr().err
    after = np.load(index / "index.npz")["embeddings"]
    np.testing.assert_array_equal(np.delete(before, [3, 5], axis=0), np.delete(after, 3, axis=0))
    assert np.abs(after[3] - before[3]).max() > 1e-3


def test_an_index_belongs_to_its_model(pretrained, pictures, tmp_path):
    index = tmp_path / "index"
    with pytest.raises(UserError, match="holds no index"):
        search.run_search(index, ["a dog"])
    with pytest.raises(UserError, match="--workdir is missing"):
        search.run_search(index, images=str(pictures / "*.png"))
    search.run_search(index, images=str(pictures / "0*.png"), workdir=pretrained[0])
    with pytest.raises(UserError, match="is not a PNG file"):
        search.run_search(index, ["a dog"], page="found.doc")
    with pytest.raises(UserError, match="the query is missing"):
        search.run_search(index)
    with pytest.raises(UserError, match="a search uses the model that made it"):
        search.run_search(index, ["a dog"], workdir=pretrained[0])
    with pytest.raises(UserError, match="cannot be read as an image"):
        search.run_search(index, image=str(pictures / "broken.png"))
    with np.load(index / search.INDEX) as arrays:
        kept = dict(arrays)
    other = json.loads(kept["model"].item()) | {"variables": "of others"}
    np.savez(index / search.INDEX, **{**kept, "model": np.array(json.dumps(other))})
    with pytest.raises(UserError, match="has changed since the index was made"):
        search.run_search(index, ["a dog"])


def test_pictures_of_a_run_that_is_judged_by_retrieval_have_its_labels(pretrained, tmp_path):
    visualize.run_visualize(pretrained[0], tmp_path, examples=20, perplexity=5)
    page = (tmp_path / "index.md").read_text()
    assert "guessing gives" in page
    assert "guessing gives 100%" not in page


def test_a_model_whose_options_changed_makes_its_index_anew(pretrained, pictures, tmp_path):
    model = photos.open_model(pretrained[0])
    other = model._replace(section={**model.section, "embedding": 17})
    files = photos.matching_files(str(pictures / "0*.png"))
    first = search._build(model, search._identity(model), [*files, *files], None, {})
    assert len(first.files) == 6  # each once
    assert search._identity(other)["variables"] == search._identity(model)["variables"]
    assert search._identity(other)["model"] != search._identity(model)["model"]


def test_files_that_cannot_be_read_are_counted(pretrained, pictures, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    images = [str(pictures / "*.png"), str(tmp_path / "broken.png")]
    matches = search.run_search(tmp_path / "index", images=images, workdir=pretrained[0])
    assert [Path(file).name for file in matches.left_out] == ["broken.png"] * 2  # one is among the pictures
    words = [f"--images={file}" for file in images]
    with pytest.raises(SystemExit) as stop:
        cli.main(["jaxvision", "search", f"--index={tmp_path / 'two'}", f"--workdir={pretrained[0]}", *words])
    assert stop.value.code == 3
    with pytest.raises(UserError, match="--image"):
        search.run_search(tmp_path / "index", image="gs://bucket/x.png")
