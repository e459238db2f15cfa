"""`jaxvision explain`: a page about a run and images, and what it refuses before it writes anything."""

import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from jaxvision.cli import main
from jaxvision.commands import explain, explain_pictures
from jaxvision.errors import UserError
from jaxvision.evaluations import read_entries
from jaxvision.explain.base import Tile, class_of

DOCS = Path(__file__).parents[2] / "docs" / "explain.md"


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(3):
        Image.fromarray(rng.integers(0, 256, (40, 32, 3)).astype(np.uint8)).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"no image")
    return folder


OWN = """
from jaxvision.explain.base import Explanation, Row, Tile


def grey(subject):
    return Explanation("Mine", "Grey.", [Row("all", [Tile(image) for image in subject.images])])
"""


def test_a_page_about_a_run(trained, photos, tmp_path, capsys, monkeypatch):
    out = tmp_path / "seen"
    what = "gradient, gradcam(layer='stages/1'), gradcam, occlusion(stride=16)"
    words = ["jaxvision", "explain", f"--workdir={trained[0]}", f"--images={photos}", f"--out={out}", "--most=2"]
    main([*words, f"--what={what}", "--target=3"])
    said = capsys.readouterr()
    assert "2 images, 4 instruments: about" in said.out
    text = (out / "index.md").read_text()
    assert "the first 2 of 4 images" in text
    pictures = {path.name for path in out.glob("*.png")}
    assert pictures == {"all.png", "gradient.png", "gradcam.png", "gradcam_2.png", "occlusion.png"}
    assert (out / "index.html").read_text().count("data:image/png;base64,") == 5
    (tmp_path / "my_instruments.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    explain.run_explain(trained[0], str(photos), out, what="my_instruments:grey")  # an instrument that is not built in
    assert {path.name for path in out.glob("*.png")} == {"grey.png"}
    assert "left out" in capsys.readouterr().err


def test_images_of_a_split_of_the_run(trained, tmp_path, capsys):
    out = tmp_path / "seen"
    words = ["jaxvision", "explain", f"--workdir={trained[0]}", "--split=validation[2:5]", f"--out={out}", "--most=2"]
    main([*words, "--what=gradient"])
    assert "the first 2 of 3 images" in (out / "index.md").read_text()
    for images, split, message in (
        (None, None, "--images or --split is missing: give one of them"),
        ("photos", "test", "--images and --split are both given: give one of them"),
        (None, "tset", "tset"),
    ):
        with pytest.raises(UserError, match=message):
            explain.run_explain(trained[0], images, tmp_path / "other", split=split)
    with pytest.raises(UserError, match="--masks are of files"):
        explain.run_explain(trained[0], None, tmp_path / "other", split="test", masks=tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(what="gradcan"), "unknown explanation 'gradcan'; did you mean 'gradcam'"),
        (dict(what="gradcam(layr='map')"), "unknown option of explanation 'gradcam' 'layr'; did you mean 'layer'"),
        (dict(what="occlusion(size=0)"), "explanation 'occlusion': size"),
        (dict(what="gradcam('map')"), "write the options of gradcam by name"),
        (dict(what="gradcam(layer='stages/9')"), "unknown layer 'stages/9'.*stages/0"),
        (dict(what="rollout"), "rollout: it cannot be applied to .*, it is not a Vision Transformer"),
        (dict(target="cow"), "unknown class of --target 'cow'"),
        (dict(prompts="photo"), "need --labels"),
        (dict(labels="a cat,a dog"), "no model of image and text"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(trained, photos, tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        explain.run_explain(trained[0], str(photos), tmp_path / "seen", **options)
    assert not (tmp_path / "seen").exists()


@pytest.fixture
def masks(photos, tmp_path):
    """Index PNGs of the photos: 1 above the middle, 2 on the right of it, some pixels 255."""
    folder = tmp_path / "masks"
    folder.mkdir()
    for i in range(3):
        indices = np.zeros((40, 32), np.uint8)
        indices[:20], indices[20:, 16:], indices[-1] = 1, 2, 255
        image = Image.fromarray(indices)
        image.putpalette([255 - i for i in range(256) for _ in range(3)])  # colours are not read
        image.save(folder / f"{i}.png")
    (photos / "broken.png").unlink()
    return folder


def test_masks_move_with_their_images(trained, photos, masks, tmp_path, monkeypatch):
    (masks / "concepts.txt").write_text("nothing\nsky\nhouse\n")
    subjects = []
    monkeypatch.setattr(explain, "_say_time", lambda subject, wanted: subjects.append(subject))
    explain.run_explain(
        trained[0], str(photos), tmp_path / "seen", what="dissect(layer='stages/0',count=2)", masks=masks
    )
    (subject,) = subjects
    assert subject.masks.shape == subject.images.shape[:3]
    middle = subject.masks.shape[1] // 2
    assert (subject.masks[:, : middle - 1] == 1).all()
    assert (subject.masks[:, middle + 1 : -2, -2:] == 2).all()
    assert (subject.masks[:, middle + 1 : -2, :2] == 0).all()
    text = (tmp_path / "seen" / "index.md").read_text()
    assert "units of `stages/0` detect a concept" in text
    assert (tmp_path / "seen" / "dissect.png").exists()


def no_file(masks):
    (masks / "1.png").unlink()


def wrong_size(masks):
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(masks / "1.png")


def of_colours(masks):
    Image.fromarray(np.zeros((40, 32, 3), np.uint8)).save(masks / "1.png")


def broken(masks):
    (masks / "1.png").write_bytes(b"no image")


def unnamed(masks):
    (masks / "concepts.txt").write_text("nothing\nsky\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_file, r"1.png has no mask .*; the folder has 0.png, 2.png"),
        (wrong_size, r"masks/1.png does not fit its image: .*40x40"),
        (of_colours, r"1.png is a picture of colours \(mode RGB\)"),
        (broken, r"1.png cannot be read"),
        (unnamed, r"the masks hold the number 2, and .*concepts.txt has 2 lines"),
    ],
)
def test_masks_that_do_not_fit_are_named(trained, photos, masks, tmp_path, change, message):
    change(masks)
    with pytest.raises(UserError, match=message):
        explain.run_explain(trained[0], str(photos), tmp_path / "seen", what="dissect", masks=masks)
    with pytest.raises(UserError, match="add --masks=FOLDER"):
        explain.run_explain(trained[0], str(photos), tmp_path / "seen", what="dissect")
    with pytest.raises(UserError, match="is no folder"):
        explain.run_explain(trained[0], str(photos), tmp_path / "seen", what="dissect", masks=tmp_path / "none")
    assert not (tmp_path / "seen").exists()


def test_no_class_is_named_for_a_model_without_classes():
    """Even if its data set has some, as that of self-supervised training may."""
    model = SimpleNamespace(
        variables={}, name="m", section={"name": "vit"}, step=3, shape=(4, 4), data=None, image="image"
    )
    features = lambda variables, images: {"features": images.mean((1, 2))}
    subject = explain._subject(features, model, ("cat", "dog"), {"a.png": np.zeros((4, 4, 3), np.uint8)}, None, 2)
    assert class_of(subject, 0) == ""
    assert "Explained" not in explain._heading(model, subject, 1, {}, None)[1]
    labelled = subject._replace(targets=np.array([1], np.int32))
    assert class_of(labelled, 0) == "dog"
    assert "Explained is the class that" in explain._heading(model, labelled, 1, {}, None)[1]


def test_the_code_of_the_page_runs(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/quickstart").symlink_to(trained[0])
    scope: dict = {"c": ConfigDict({"evals": {}})}
    names = []
    for block in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL):
        exec(block, scope)
        names += [entry.common.name for entry in read_entries(scope["c"].evals)]
        scope["c"].evals = {}
    assert names == ["pointing", "attacked"]
    assert abs(scope["changed"] - scope["images"]).max() == pytest.approx(8 / 255)


def test_colours_of_maps():
    image = np.full((8, 8, 3), 0.5)
    signed = np.zeros((2, 2))
    signed[0, 0], signed[1, 1] = 1.0, -1.0
    picture = explain_pictures.colours(Tile(image, signed), side=8)
    assert picture.shape == (8, 8, 3)
    assert picture[0, 0, 0] > picture[0, 0, 2]  # red above 0
    assert picture[-1, -1, 2] > picture[-1, -1, 0]  # blue below
    positive = explain_pictures.colours(Tile(None, np.array([[0.0, 1.0], [2.0, 4.0]])), side=2)
    assert positive[0, 0].sum() < positive[1, 1].sum()
    assert np.isfinite(explain_pictures.colours(Tile(image, np.zeros((2, 2))))).all()
