import shutil

import pytest

from jaxvision.data import sources
from jaxvision.errors import UserError


def open_folder(root, split="train"):
    return sources.open_source("folder", split, data_dir=str(root))


def test_folder(folder):
    source = open_folder(folder)
    assert source.info == sources.Info(folder.name, "train", 7, ("cat", "dog"), 2)
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


def test_folder_passes_over_what_is_no_image(folder):
    (folder / "train" / "cat" / ".hidden.png").write_bytes(b"")
    (folder / "train" / "cat" / "notes.txt").write_bytes(b"")
    (folder / ".cache").mkdir()
    shutil.copy(folder / "train" / "cat" / "0.png", folder / "train" / "cat" / "9.JPeG")
    assert len(open_folder(folder)) == 8


def test_folder_of_another_class(folder):
    (folder / "validation" / "bird").mkdir()
    with pytest.raises(UserError, match=r"'train' and 'validation' .* differ in their class folders: bird"):
        open_folder(folder)


def test_folder_that_lacks_something(folder, tmp_path_factory):
    with pytest.raises(UserError, match="no directory"):
        open_folder(folder / "nowhere")
    with pytest.raises(UserError, match="is empty"):
        open_folder(tmp_path_factory.mktemp("empty"))
    with pytest.raises(UserError, match=r"'test' .*which has train, validation"):
        open_folder(folder, "test")
    with pytest.raises(UserError, match=r"'train\[:0%\]' .* is empty"):
        open_folder(folder, "train[:0%]")
    with pytest.raises(UserError, match="cannot read the split"):
        open_folder(folder, "train[")
    with pytest.raises(UserError, match="needs data_dir"):
        sources.open_source("folder", "train")
    for file in (folder / "train").glob("*/*"):
        file.unlink()
    with pytest.raises(UserError, match="no images in"):
        open_folder(folder)
    (folder / "test").mkdir()
    with pytest.raises(UserError, match="no class folders"):
        open_folder(folder)
