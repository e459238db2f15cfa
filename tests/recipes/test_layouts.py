"""Every layout of a folder of images works, or gives one line that says what to do."""

import shutil

import pytest

from jaxvision.errors import UserError
from jaxvision.recipes import Wishes
from jaxvision.recipes import make as make_recipe
from jaxvision.recipes.layouts import find_layout


def test_class_folders(photos):
    layout = find_layout(str(photos))
    assert (layout.name, layout.options, layout.splits) == ("folder", {"splits": False}, {"train": "train"})
    assert layout.data_dir == str(photos)
    assert layout.words == "2 class folders"


@pytest.mark.parametrize("names", [("train", "val"), ("Training", "valid", "test"), ("train", "validation")])
def test_splits_under_their_usual_names(photos, tmp_path, names):
    for name in names:
        shutil.copytree(photos, tmp_path / "set" / name)
    layout = find_layout(str(tmp_path / "set"))
    assert layout.options == {}
    assert list(layout.splits.values()) == list(names)
    assert list(layout.splits) == ["train", "validation", "test"][: len(names)]


def test_a_train_is_also_a_vehicle(photos):
    (photos / "dog").rename(photos / "train")
    assert find_layout(str(photos)).options == {"splits": False}


def test_a_class_may_hold_folders(photos):
    (photos / "cat" / "2024").mkdir()
    shutil.move(photos / "cat" / "IMG 0.jpg", photos / "cat" / "2024" / "0.jpg")
    assert find_layout(str(photos)).options == {"splits": False}


@pytest.mark.parametrize(
    ("header", "options"),
    [
        ("path,label", {}),
        ("file_name;species", {"path": "file_name", "label": "species"}),
        ("Image\tClass", {"path": "Image", "label": "Class"}),
    ],
)
def test_tables(photos, header, options):
    mark = next(c for c in header if c in ",;\t")
    rows = [f"{name}/IMG {i}.jpg{mark}{name}" for name in ("cat", "dog") for i in range(10)]
    table = photos / ("list.tsv" if mark == "\t" else "list.csv")
    table.write_text("\n".join([header, *rows]))
    layout = find_layout(str(table))
    assert (layout.name, layout.splits) == ("manifest", {"train": "train"})
    assert layout.options == {**options, "file": {"train": table.name}}


def test_a_table_with_a_column_of_splits_and_images_beside_it(photos, tmp_path):
    rows = [f"{name}/IMG {i}.jpg,{name},{'val' if i > 7 else 'train'}" for name in ("cat", "dog") for i in range(10)]
    shutil.copytree(photos, tmp_path / "set" / "images")
    (tmp_path / "set" / "all.csv").write_text("\n".join(["path,label,split", *rows]))
    layout = find_layout(str(tmp_path / "set"))
    assert layout.splits == {"train": "train", "validation": "val"}
    assert layout.options == {"file": "all.csv", "split_column": "split", "root": "images"}


@pytest.mark.parametrize(
    ("column", "values", "listed"),
    [("split", ("tr", "te"), "tr, te"), ("fold", (0, 1, 2), "0, 1, 2"), ("Set", ("test",), "test")],
)
def test_a_column_of_splits_without_train_is_refused(photos, column, values, listed):
    rows = [f"{name}/IMG {i}.jpg,{name},{values[i % len(values)]}" for name in ("cat", "dog") for i in range(10)]
    (photos / "all.csv").write_text("\n".join([f"path,label,{column}", *rows]))
    with pytest.raises(UserError, match=f"'{column}' of .* has the values {listed}, and none is called train: call"):
        find_layout(str(photos / "all.csv"))


def test_splits_of_a_table_that_are_not_used_are_left_out(photos):
    parts = ("train", "val", "extra", "train2")
    rows = [f"{name}/IMG {i}.jpg,{name},red,{parts[i % 4]}" for name in ("cat", "dog") for i in range(10)]
    (photos / "all.csv").write_text("\n".join(["path,label,set,phase", *rows]))
    layout = find_layout(str(photos / "all.csv"))
    assert (layout.options["split_column"], layout.splits) == ("phase", {"train": "train", "validation": "val"})
    assert layout.others == ("extra", "train2")
    assert "left out: the splits extra, train2" in make_recipe(str(photos / "all.csv"), Wishes("resnet18")).lines


def test_a_class_of_vehicles_with_folders_is_no_split(tmp_path, photo):
    names = [
        f"{kind}/{fuel}/{i}.jpg" for kind in ("car", "train", "bus") for fuel in ("steam", "diesel") for i in (1, 2)
    ]
    make(tmp_path / "set", photo, *names)
    with pytest.raises(UserError, match=r"holds train and other folders with images \(bus, car\).* if it is a class"):
        find_layout(str(tmp_path / "set"))
    (tmp_path / "set" / "train").rename(tmp_path / "set" / "trains")
    assert find_layout(str(tmp_path / "set")).words == "3 class folders"


def test_a_table_that_names_images_comes_before_folders(photos, photo):
    (photos / "cat").rename(photos / "images")
    (photos / "dog").rename(photos / "masks")
    rows = [f"images/IMG {i}.jpg,{'cat' if i % 2 else 'dog'}" for i in range(10)]
    (photos / "labels.csv").write_text("\n".join(["file,breed,species", *(f"{row},1" for row in rows)]))
    layout = find_layout(str(photos))
    assert layout.name == "manifest"
    assert layout.options["label"] == "species"
    (photos / "labels.csv").write_text("name,breed\nIMG 1,cat")  # names no file
    layout = find_layout(str(photos))
    assert layout.name == "folder"
    assert "and a table that is not read" in layout.words


def make(root, photo, *names):
    for i, name in enumerate(names):
        if name.endswith("/"):
            (root / name).mkdir(parents=True)
        elif name.endswith((".jpg", ".png")):
            photo(root / name, seed=i)
        else:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("path,caption\n")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["1.jpg", "2.jpg"],
            r"outside of class folders \(1\.jpg, 2\.jpg\): make a folder for each class",
        ),
        (["cat/1.jpg"], "holds images in one folder only, cat, and a classifier needs two classes"),
        (["pets/cat/1.jpg", "pets/dog/1.jpg"], r"holds the single folder pets with images: give --data=.*/pets"),
        (["cat/", "dog/"], "no images in .*, only cat, dog; want a folder of images for each class"),
        ([], "which is empty; want a folder"),
        (["photos.zip"], r"holds no images, but the archive photos\.zip: unpack it"),
        (["train/1.jpg", "val/2.jpg"], "lie in no class folders: make a folder for each class, as in train/cat/1.jpg"),
        (["train2017/1.jpg", "val2017/2.jpg"], "lie in no class folders: make a folder for each class"),
        (["val/cat/1.jpg", "val/dog/2.jpg", "test/cat/1.jpg"], "but no folder train to learn from"),
        (["a.csv", "b.csv"], r"holds the tables a\.csv, b\.csv: call one of them train\.csv"),
        (["train.csv"], "none that names the classes: call it label"),
    ],
)
def test_what_cannot_be_read_says_how_it_should_look(tmp_path, photo, names, message):
    root = tmp_path / "set"
    root.mkdir()
    make(root, photo, *names)
    with pytest.raises(UserError, match=message) as caught:
        find_layout(str(root))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("set/photoss", r"there is no such folder; did you mean 'photos'"),
        ("set/1.jpg", "is a single image: give a folder"),
        ("set/a.zip", "is an archive: unpack it"),
        ("set/a.txt", "is a file of an unknown kind"),
    ],
)
def test_other_paths(tmp_path, photo, name, message):
    make(tmp_path / "set", photo, "photos/", "1.jpg", "a.zip", "a.txt")
    with pytest.raises(UserError, match=message):
        find_layout(str(tmp_path / name))


def test_a_name_that_is_neither_a_folder_nor_a_set():
    with pytest.raises(UserError, match="there is no folder .*/fotos, and no set of that name"):
        find_layout("fotos")
