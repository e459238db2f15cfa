"""The config that is made from images: what is chosen, and that it is the same each time."""

import numpy as np
import pytest
from PIL import Image

from jaxvision import config as configs
from jaxvision.errors import UserError
from jaxvision.recipes import Wishes, check_images, make
from jaxvision.recipes.survey import open_part


def test_photographs_of_mixed_sizes(photos):
    recipe = make(str(photos), Wishes("resnet18"))
    config = recipe.config
    assert config.data.to_dict() == {
        "name": "folder",
        "data_dir": str(photos),
        "split": "train",
        "options": {"splits": False},
        "subset": {"hold_out": 0.2, "seed": 0},
        "host": "decode|random_resized_crop(32, area=(0.25, 1.0))",
        "batch_size": 4,
    }
    assert config.model.to_dict() == {"name": "resnet", "variant": "18", "stem": "cifar"}
    assert config.optimizer.name == "sgd"
    assert config.train.total == "200 epochs"
    assert config.evals.val.to_dict()["subset"] == {"hold_out": 0.2, "part": "held_out", "seed": 0}
    assert "4 images are held out, 20% of each class" in "\n".join(recipe.lines)
    again = make(str(photos), Wishes("resnet18"))
    assert configs.fingerprint(again.config) == configs.fingerprint(config)
    assert check_images(config) == ["checked: 20 images, all can be read"]
    held = open_part({**config.data.to_dict(), "subset": config.evals.val.subset.to_dict()})
    rest = open_part(config.data.to_dict())
    names = [{part.describe(i) for i in range(len(part))} for part in (rest, held)]
    assert (len(names[0]), len(names[1])) == (16, 4)
    assert not names[0] & names[1]


def test_small_images_of_one_size_are_used_as_they_are(tmp_path, photo):
    for k in range(2):
        for i in range(4):
            photo(tmp_path / str(k) / f"{i}.png", size=(28, 28), seed=i)
    config = make(str(tmp_path), Wishes("resnet18")).config
    assert (config.data.host, config.augment) == ("decode", "random_crop(28, 3)|flip_lr|normalize_imagenet")
    other = make(str(tmp_path), Wishes("vit-s16")).config  # 28 pixels are no whole number of its patches
    assert other.data.host == "decode|random_resized_crop(32, area=(0.25, 1.0))"
    assert other.optimizer.name == "adamw"
    with pytest.raises(UserError, match="--size=28 does not fit vit S/16: give --size=32"):
        make(str(tmp_path), Wishes("vit-s16", size=28))


def test_one_image_of_another_size_among_small_ones(tmp_path, photo, monkeypatch):
    for k in range(2):
        for i in range(8):
            photo(tmp_path / str(k) / f"{i}.png", size=(8, 9) if (k, i) == (0, 1) else (8, 8), seed=i)
    monkeypatch.setattr("jaxvision.recipes.survey._SIZED", 2)  # the first and the last image
    recipe = make(str(tmp_path), Wishes("resnet18"))
    assert recipe.config.data.host == "decode|random_resized_crop(32, area=(0.25, 1.0))"
    assert "of mixed sizes" in recipe.lines[0]
    photo(tmp_path / "0" / "1.png", size=(8, 8))
    recipe = make(str(tmp_path), Wishes("resnet18"))
    assert recipe.config.data.host == "decode"
    assert "classes (8 to 8 of each), all of 8x8 pixels" in recipe.lines[0]


def test_large_images_of_which_some_were_looked_at(tmp_path, photo, monkeypatch):
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        photo(tmp_path / name, size=(120, 100))
    monkeypatch.setattr("jaxvision.recipes.survey._SIZED", 2)
    assert "2 of them looked at, all of 120x100 pixels" in make(str(tmp_path), Wishes("resnet18")).lines[0]


def test_validation_images_of_another_size(tmp_path, photo):
    for i in range(4):
        photo(tmp_path / "train" / f"{i % 2}" / f"{i}.png", size=(28, 28))
        photo(tmp_path / "val" / f"{i % 2}" / f"{i}.png", size=(28, 28 + i))
    assert "random_resized_crop(28" in make(str(tmp_path), Wishes("resnet18")).config.data.host


def test_advice_and_weights_of_the_hub(photos):
    recipe = make(str(photos), Wishes("convnext-t"))
    assert recipe.lines[-1].startswith("hint: convnext learns little from so few images without pretrained weights")
    assert recipe.reasons["data.subset"] == "20% of each class is held out for the evaluation val"
    with pytest.raises(UserError, match=r"jaxvision convert --from=hf:timm/resnet18 OUT, and give --from=OUT"):
        make(str(photos), Wishes(weights="hf:timm/resnet18"))


def changed(recipe, **changes):
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    return recipe.changed(configs.normalised(configs.override(recipe.config, keys)))


def test_what_is_said_of_a_changed_config_is_true(photos):
    recipe = make(str(photos), Wishes("resnet18"))
    assert changed(recipe) == recipe
    new = changed(recipe, train__total="3 epochs", data__batch_size=8, model__variant="34", augment="flip_lr")
    text = "\n".join(new.lines)
    assert "training: 3 epochs in batches of 8, sgd with rate" in text
    assert text.endswith("augmentation flip_lr\n" + recipe.lines[-1])
    assert "model: resnet 34, from random weights" in text
    assert new.title == f"resnet 34 on the images in {photos}, 3 epochs."
    assert new.lines[:2] == recipe.lines[:2]
    gone = {"train.total", "data.batch_size", "model", "augment", "optimizer.learning_rate"}
    assert set(recipe.reasons) - set(new.reasons) == gone


def test_a_changed_share_is_held_out_for_val_too(photos):
    recipe = make(str(photos), Wishes("resnet18"))
    new = changed(recipe, data__subset__hold_out=0.4, data__subset__seed=3)
    assert new.config.evals.val.subset.to_dict() == {"hold_out": 0.4, "part": "held_out", "seed": 3}
    assert "8 images are held out, 40% of each class" in "\n".join(new.lines)
    assert "data.subset" not in new.reasons
    assert "20%" not in new.file("a.py")
    own = changed(recipe, data__subset__hold_out=0.4, evals__val__subset__hold_out=0.3)
    assert own.config.evals.val.subset.hold_out == 0.3
    assert "evaluations, as changed: val on train" in own.lines
    with pytest.raises(UserError, match=r"hold_out must be a number in \(0, 1\)"):
        changed(recipe, data__subset__hold_out=1.0)


def test_wishes(photos):
    config = make(str(photos), Wishes("resnet18", size=64, epochs=3, batch=8)).config
    assert config.data.host == "decode|random_resized_crop(64, area=(0.25, 1.0))"
    assert (config.train.total, config.data.batch_size) == ("3 epochs", 8)
    with pytest.raises(UserError, match="--batch=99 is more than the 16 training images"):
        make(str(photos), Wishes("resnet18", batch=99))
    with pytest.raises(UserError, match="--model is missing"):
        make(str(photos), Wishes())
    with pytest.raises(UserError, match="neither a folder of converted weights nor the workdir of a run"):
        make(str(photos), Wishes("resnet18", weights=str(photos / "none")))


def test_images_that_cannot_be_read(photos):
    (photos / "cat" / "empty.jpg").write_bytes(b"")
    whole = (photos / "dog" / "IMG 1.jpg").read_bytes()
    (photos / "dog" / "half.jpg").write_bytes(whole[: len(whole) // 2])
    (photos / "dog" / "page.jpg").write_text("<!DOCTYPE html>")
    config = make(str(photos), Wishes("resnet18")).config
    with pytest.raises(UserError, match=r"cannot be read, more than the 1 that data\.max_bad_fraction=0\.001 allows"):
        check_images(config)
    config.data.max_bad_fraction = 0.5
    lines = "\n".join(check_images(config))
    assert "empty.jpg (" in lines
    assert "half.jpg (" in lines
    assert "page.jpg (it is a web page" in lines


def test_three_images(tmp_path, photo):
    for i, name in enumerate(("cat/1.jpg", "cat/2.jpg", "dog/1.jpg")):
        photo(tmp_path / name, seed=i)
    config = make(str(tmp_path), Wishes("resnet18")).config
    assert (config.data.batch_size, config.evals.val.subset.part) == (1, "held_out")
    (tmp_path / "cat" / "2.jpg").unlink()
    recipe = make(str(tmp_path), Wishes("resnet18"))
    assert not recipe.config.evals
    assert "validation: none, since no class has two images" in recipe.lines


def test_odd_pictures(photos):
    odd = photos / "cat"
    pixels = np.random.default_rng(0).integers(0, 255, (50, 70, 3), np.uint8)
    Image.fromarray(pixels).convert("CMYK").save(odd / "cmyk.jpg")
    Image.fromarray(pixels[..., 0].astype(np.uint16) * 256).save(odd / "deep.png")
    turned = Image.Exif()
    turned[274] = 6
    Image.fromarray(pixels).save(odd / "turned.jpg", exif=turned)
    Image.fromarray(pixels).save(odd / "alpha.png")
    config = make(str(photos), Wishes("resnet18")).config
    assert check_images(config) == ["checked: 24 images, all can be read"]


def test_one_class_in_a_table(photos):
    (photos / "train.csv").write_text("path,label\n" + "\n".join(f"cat/IMG {i}.jpg,cat" for i in range(5)))
    with pytest.raises(UserError, match=r"all 5 images of .* are of the class 'cat', and a classifier needs two"):
        make(str(photos / "train.csv"), Wishes("resnet18"))
