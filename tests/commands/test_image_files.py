"""Which files --images means."""

import os
import unicodedata

import pytest

from jaxvision.commands import image_files
from jaxvision.errors import UserError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of files whose content is not looked at; it is the current one."""
    for name in ("b.png", "a.JPG", "c.tif", "more/d.webp", "more/deep/e.jpeg", "notes.txt", ".hidden.png", "._a.jpg"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "photos"


def names(images):
    return [os.path.relpath(file, "photos") for file in images.files]


def test_a_folder_means_the_pictures_in_it_and_below(folder):
    images = image_files.find("photos")
    assert names(images) == ["a.JPG", "b.png", "c.tif", "more/d.webp", "more/deep/e.jpeg"]
    assert images.others == ["photos/notes.txt"]
    assert image_files.find("photos/").files == images.files
    assert [os.path.abspath(f) for f in images.files] == image_files.find(str(folder)).files


def test_links_lead_on_and_round_in_circles_once(folder):
    (folder / "more" / "back").symlink_to(folder)
    (folder / "linked").symlink_to(folder / "more" / "deep")
    assert names(image_files.find("photos")) == ["a.JPG", "b.png", "c.tif", "linked/e.jpeg", "more/d.webp"]


def test_a_link_to_nothing_is_named_when_it_is_read_and_a_pipe_is_not_waited_for(folder):
    (folder / "gone.png").symlink_to(folder / "absent.png")
    os.mkfifo(folder / "pipe.png")
    (folder / "piped.png").symlink_to(folder / "pipe.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    listed = names(image_files.find("photos"))
    assert "gone.png" in listed
    assert not {"pipe.png", "piped.png", "zero.png"} & set(listed)
    with pytest.raises(UserError, match="zero.png' is a pipe or a device, not a file"):
        image_files.find("photos/zero.png")


@pytest.mark.parametrize(
    "name", ["a[1].jpg", "what?.png", "*.jpg", "[x].png", "two words.png", "new\nline.png", "-a.png"]
)
def test_what_exists_is_taken_literally(folder, name):
    (folder / name).write_bytes(b"")
    assert image_files.find(f"photos/{name}").files == [f"photos/{name}"]


def test_a_pattern_below_a_folder_whose_name_holds_glob_characters(folder):
    (folder / "set [2020]").mkdir()
    (folder / "set [2020]" / "x1.png").write_bytes(b"")
    assert names(image_files.find("photos/set [2020]/x*.png")) == ["set [2020]/x1.png"]


def test_patterns(folder):
    assert names(image_files.find("photos/*.png")) == ["b.png"]
    assert names(image_files.find("photos/**/*.[jw]*")) == ["more/d.webp", "more/deep/e.jpeg"]
    assert names(image_files.find("photos/*")) == ["a.JPG", "b.png", "c.tif", "notes.txt"]
    assert names(image_files.find(["photos/b.png", "photos/*.png", str(folder / "b.png"), "photos/c.tif"])) == [
        "b.png",
        "c.tif",
    ]


def test_home(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    assert image_files.find("~/b.png").files == [str(folder / "b.png")]


@pytest.mark.parametrize(("on_disk", "asked"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_accents_are_composed_either_way(folder, on_disk, asked):
    composed = {form: unicodedata.normalize(form, "été") for form in ("NFC", "NFD")}
    (folder / composed[on_disk]).mkdir()
    file = folder / composed[on_disk] / f"{composed[on_disk]}.png"
    file.write_bytes(b"")
    for argument in (
        f"{composed[asked]}/{composed[asked]}.png",
        composed[asked],
        f"{composed[asked]}/{composed[asked]}*",
    ):
        assert image_files.find(f"photos/{argument}").files == [str(file.relative_to(folder.parent))]


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("photos/*.jpg", r"no file matches 'photos/\*.jpg': the folder photos has 1 such file: a.JPG"),
        ("photos/*.gif", "the folder photos has 5 other entries, such as "),
        (
            "photos/bb.png",
            "no file or folder 'photos/bb.png': the folder photos has 5 entries; the nearest in name: b.png",
        ),
        ("photso/*.png", "no file matches 'photso.*has .*; the nearest in name: photos"),
        ("photos/b.png/*.png", "photos/b.png is a file, not a folder"),
        ("empty", "no pictures in 'empty': it has no files, nor do its subfolders"),
        ("empty/*.png", "the folder empty is empty"),
        ("folders", "no pictures in 'folders': it has no files, nor do its subfolders"),
        ("folders/*", "only folders match 'folders/.*', such as folders/in: give one of them"),
        ("texts", "no pictures in 'texts': it has 1 other files, such as texts/a.txt. Names of pictures end in .jpg, "),
        ("", "--images is empty"),
    ],
)
def test_nothing_there(folder, argument, message):
    for path in ("empty", "folders/in", "texts"):
        (folder.parent / path).mkdir(parents=True)
    (folder.parent / "texts" / "a.txt").write_bytes(b"")
    with pytest.raises(UserError, match=message):
        image_files.find(argument)
