import os
import shlex
import shutil
import unicodedata
from pathlib import Path

import pytest

from jaxvision.data import sources
from jaxvision.data.formats import IMAGE_SUFFIXES
from jaxvision.errors import UserError


def open_folder(root, split="train", **options):
    return sources.open_source("folder", split, data_dir=str(root), options=options)


def test_folder(folder):
    source = open_folder(folder)
    assert source.info._replace(fields={}) == sources.Info(folder.name, "train", 7, ("cat", "dog"), 2)
    assert source.labels.tolist() == [source[i]["label"] for i in range(7)] == [0, 0, 0, 0, 1, 1, 1]
    assert source.describe(5) == str(folder / "train" / "dog" / "1.png")
    assert source[5]["image"] == (folder / "train" / "dog" / "1.png").read_bytes()


@pytest.mark.parametrize(
    ("split", "indices"),
    [
        ("train[:40%]", [0, 1, 2]),  # 2.8 examples, rounded as TFDS does
        ("train[40%:]", [3, 4, 5, 6]),
        ("train[2:4]", [2, 3]),
        ("train[-1:]", [6]),
        ("train[5:]+train[:1]", [5, 6, 0]),
    ],
)
def test_folder_slices(folder, split, indices):
    whole, part = open_folder(folder), open_folder(folder, split)
    assert [part.describe(i) for i in range(len(part))] == [whole.describe(i) for i in indices]


def test_folder_sums_of_splits(folder):
    assert len(open_folder(folder, "train+validation")) == len(open_folder(folder, "all")) == 11


def add(root, *names):
    """Puts an image at each name, whatever its suffix."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "train" / "cat" / "0.png", root / name)


def test_every_readable_format_is_read(folder):
    add(folder, *(f"train/cat/9{suffix}" for suffix in IMAGE_SUFFIXES), "train/cat/9.JPeG")
    assert len(open_folder(folder)) == 7 + len(IMAGE_SUFFIXES) + 1


def test_what_is_passed_over_is_counted_and_named(folder, caplog):
    add(folder, "train/cat/.hidden.png", "train/cat/notes.txt", "train/cat/a.heic", "train/b.png", "train/dog/c.HEIC")
    add(folder, "test/0.png", "runs/version_0/log", "__MACOSX/train/cat/._0.png", "train/dog/Thumbs.db", "train/d.heic")
    (folder / ".cache").mkdir()
    (folder / "train" / "dog" / "nowhere.png").symlink_to(folder / "gone.png")
    source = open_folder(folder)
    assert len(source) == 7
    assert {reason: count for reason, (count, _) in source.passed_over.as_dict().items()} == {
        "hidden, or made by an operating system": 4,
        "folder that is not a split: it has no class folder with an image": 2,
        "suffix is not that of an image": 4,
        "image outside of the class folders": 1,
        "not a file (a broken link, a device)": 1,
    }
    assert f"{folder.name} train passes over: " in caplog.text
    assert "suffix is not that of an image: 4 (train/cat/a.heic, train/cat/notes.txt, train/d.heic, ...)" in caplog.text
    assert "folder with an image: 2 (runs/, test/)" in caplog.text


def test_a_clean_folder_says_nothing(folder, caplog):
    open_folder(folder)
    assert not caplog.records


def test_images_deeper_in_a_class_folder_are_of_the_class(folder):
    add(folder, "train/cat/more/0.png", "train/cat/more/deep/1.png", "train/dog/x/0.png")
    source = open_folder(folder)
    assert len(source) == 10
    names = [Path(source.describe(i)).relative_to(folder / "train").as_posix() for i in range(10)]
    assert [name for name in names if "/more/" in name or "/x/" in name] == [
        "cat/more/0.png",
        "cat/more/deep/1.png",
        "dog/x/0.png",
    ]
    assert [source[i]["label"] for i in range(10)] == [int(name.startswith("dog")) for name in names]


def test_a_link_to_a_folder_around_it_is_not_followed(folder):
    (folder / "train" / "cat" / "loop").symlink_to(folder / "train")
    (folder / "train" / "dog" / "elsewhere").symlink_to(folder / "validation" / "dog")
    source = open_folder(folder)
    assert len(source) == 7 + len(list((folder / "validation" / "dog").iterdir()))
    assert "link to one of its parent folders: 1 (train/cat/loop)" in str(source.passed_over)


def test_a_class_without_an_image_is_a_class(folder):
    (folder / "train" / "bird").mkdir()
    source = open_folder(folder)
    assert (source.info.classes, source.labels.min()) == (("bird", "cat", "dog"), 1)
    assert open_folder(folder, "validation").info.classes == source.info.classes


def test_the_classes_are_those_of_train(folder):
    add(folder, "validation/bird/0.png")
    assert len(open_folder(folder)) == 7  # validation is not named, so what is wrong with it does not matter
    with pytest.raises(UserError) as refused:
        open_folder(folder, "validation")
    assert "validation/bird has images, but 'bird' is not one of the 2 classes. Classes: cat, dog." in str(
        refused.value
    )
    assert """name all classes: --config.data.options.classes="('bird', 'cat', 'dog')\"""" in str(refused.value)
    assert open_folder(folder, "validation", classes=("dog", "cat", "bird")).labels.max() == 2
    add(folder, "test/unknown/7.png")  # Kaggle's layout for images without labels
    assert open_folder(folder).info.classes == ("cat", "dog")


def test_an_empty_class_folder_says_what_to_do(folder):
    (folder / "validation" / "bird").mkdir()
    reasons = open_folder(folder, "validation").passed_over.as_dict()
    assert reasons == {
        "class folder without images (add images, also in train, or delete it)": (1, ["validation/bird/"])
    }


def test_classes_as_a_shell_takes_them(folder):
    add(folder, 'validation/"odd" one/0.png')
    (folder / "train").rename(folder / "training")
    with pytest.raises(UserError) as refused:
        open_folder(folder, "training")
    flag = shlex.split(str(refused.value).partition("name all classes: ")[2])
    assert flag == ["""--config.data.options.classes=('"odd" one', 'cat', 'dog')"""]
    with pytest.raises(
        UserError, match=r"""no file .*: names without a file are a tuple, classes="\('cat', 'dog'\)\""""
    ):
        open_folder(folder, "training", classes="cat, dog")


def test_without_train_all_splits_have_the_same_classes(folder):
    (folder / "train").rename(folder / "training")
    assert open_folder(folder, "training").info.num_classes == 2
    (folder / "validation" / "bird").mkdir()
    with pytest.raises(UserError, match=r"'training' and 'validation' .* differ in their class folders: bird"):
        open_folder(folder, "training")
    (folder / "names.txt").write_text("cat\ndog\nbird\n")
    assert open_folder(folder, "training", classes="names.txt").info.classes == ("cat", "dog", "bird")
    with pytest.raises(UserError, match="classes must be a text or a list of texts or None, not 3"):
        open_folder(folder, "training", classes=3)


def test_names_composed_in_two_ways_are_one_class(folder):
    for split, form in (("train", "NFC"), ("validation", "NFD")):
        name = unicodedata.normalize(form, "caf\u00e9")
        add(folder, f"{split}/{name}/0.png")
    for split in ("train", "validation"):
        source = open_folder(folder, split)
        assert source.info.classes == ("caf\u00e9", "cat", "dog")
        assert len(source[0]["image"]) > 0
        assert source.labels.min() == 0


def test_folder_that_lacks_something(folder, tmp_path_factory):
    with pytest.raises(UserError, match="no directory"):
        open_folder(folder / "nowhere")
    with pytest.raises(UserError, match="no images in"):
        open_folder(tmp_path_factory.mktemp("empty"))
    with pytest.raises(UserError, match=r"'test' .*which has train, validation"):
        open_folder(folder, "test")
    with pytest.raises(UserError, match=r"'train\[:0%\]' .* is empty"):
        open_folder(folder, "train[:0%]")
    with pytest.raises(UserError, match="cannot read the split"):
        open_folder(folder, "train[")
    with pytest.raises(UserError, match="needs data_dir"):
        sources.open_source("folder", "train")
    with pytest.raises(
        UserError,
        match=r"train holds cat, dog with images in them, want SPLIT/CLASS.*: if train is a split, data_dir is .*",
    ):
        open_folder(folder / "train")
    for file in (folder / "train").glob("*/*"):
        file.rename(file.with_suffix(".heic"))
    with pytest.raises(UserError, match=r"train holds no class folder with an image"):
        open_folder(folder)


def test_a_folder_that_cannot_be_listed_is_named(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match=r"cannot read the data set 'folder' in .*: Permission denied \(.*\)"):
        open_folder(folder)


def test_class_folders_without_splits(folder, caplog):
    root = folder / "train"
    shutil.copy(root / "cat" / "0.png", root / "loose.png")
    (root / "empty").mkdir()
    (root / "cat" / "deep").mkdir()
    shutil.copy(root / "cat" / "0.png", root / "cat" / "deep" / "9.png")
    source = open_folder(root, splits=False)
    assert (source.info.classes, len(source)) == (("cat", "dog"), 8)
    assert "image outside of the class folders: 1 (loose.png)" in caplog.text
    assert "class folder without images (add images, or delete it): 1 (empty/)" in caplog.text
    assert len(open_folder(root, "train[:50%]", splits=False)) == 4
    with pytest.raises(UserError, match="no split of that name"):
        open_folder(root, "validation", splits=False)
    with pytest.raises(UserError, match=r"if these are the classes, set options=dict\(splits=False\)"):
        open_folder(folder / "validation")
    with pytest.raises(UserError, match="no class folder with an image in .*, which is empty"):
        open_folder(root / "empty", splits=False)
