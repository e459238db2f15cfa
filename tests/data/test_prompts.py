"""Prompts and class names, against the lists that were published."""

import json

import pytest

from jaxvision.data.sources import Info
from jaxvision.data.text import class_names, imagenet, prompts
from jaxvision.errors import UserError


def test_templates_and_names_are_those_of_clip(shared):
    published = json.loads(shared("clip/clip_prompts.json").read_text())
    assert list(prompts.get_prompts("clip80").templates) == published["imagenet_templates"]
    assert list(prompts.get_prompts("clip7").templates) == published["open_clip_SIMPLE_IMAGENET_TEMPLATES"]
    assert list(imagenet.NAMES) == published["imagenet_classes"]


def test_the_seven_are_among_the_eighty():
    assert len(prompts.get_prompts("clip80").templates) == 80
    assert len(set(prompts.get_prompts("clip7").templates) & set(prompts.get_prompts("clip80").templates)) == 7


def test_the_classes_of_imagenet_and_its_variants():
    """Against single facts of the papers and of WordNet."""
    assert len(imagenet.NAMES) == len(imagenet.WNIDS) == 1000
    assert list(imagenet.WNIDS) == sorted(set(imagenet.WNIDS))
    assert imagenet.NAMES[imagenet.WNIDS.index("n02099601")] == "Golden Retriever"
    assert imagenet.NAMES[999] == "toilet paper"
    for subset in (imagenet.RENDITION, imagenet.ADVERSARIAL):
        assert len(subset) == len(set(subset)) == 200
        assert list(subset) == sorted(subset)
    assert (imagenet.RENDITION[:3], imagenet.ADVERSARIAL[:3]) == ((1, 2, 4), (6, 11, 13))
    assert len(imagenet.OBJECTNET) == 113
    assert imagenet.OBJECTNET["full_sized_towel"] == "bath towel"


def test_own_prompts_are_named_by_what_they_say(tmp_path):
    lines, listed = tmp_path / "mine.txt", tmp_path / "mine.json"
    lines.write_text("a {} from above\n\nthe {}\n")
    listed.write_text('["a {} from above", "the {}"]')
    names = prompts.get_prompts(lines)
    assert names == prompts.get_prompts(str(listed))
    assert names.templates == ("a {} from above", "the {}")
    assert names.name.startswith("mine_")
    lines.write_text("a {} from below\nthe {}\n")
    assert prompts.get_prompts(lines).name != names.name


@pytest.mark.parametrize(
    ("content", "message"),
    [("a cat", "in place of the class name"), ("", "holds no prompts"), ('{"a": 1}', "not a list")],
)
def test_files_that_hold_no_prompts(tmp_path, content, message):
    file = tmp_path / ("own.json" if content.startswith("{") else "own.txt")
    file.write_text(content)
    with pytest.raises(UserError, match=message):
        prompts.get_prompts(file)


def info(classes, k=None):
    return Info("set", "test", 1, tuple(classes), k or len(classes))


def test_labels_of_imagenet_however_its_folders_are_called():
    """Folders 0 to 999, as ImageNet-V2 has them, sort as texts: 0, 1, 10, 100, ..."""
    numbered = class_names.candidate_classes(info(sorted(map(str, range(1000)))), only="imagenet_v2")
    assert (numbered.names[0], numbered.names[2]) == (imagenet.NAMES[0], imagenet.NAMES[10])
    plain = class_names.candidate_classes(info((), 1000), only="imagenet_sketch")
    assert plain.names == imagenet.NAMES
    named = class_names.candidate_classes(info(imagenet.WNIDS), only="imagenet_a")
    assert named.labels == imagenet.ADVERSARIAL
    assert named.names[0] == imagenet.NAMES[6]
    folders = class_names.candidate_classes(info([imagenet.WNIDS[i] for i in imagenet.RENDITION]), only="imagenet_r")
    assert folders.labels == tuple(range(200))
    assert folders.names == class_names.candidate_classes(info((), 1000), only="imagenet_r").names
    assert folders.protocol == "_only_imagenet_r"


def test_objectnet_by_its_folders():
    names = class_names.candidate_classes(info(("air_freshener", "full_sized_towel", "t-shirt")), only="objectnet")
    assert names.labels == (1, 2)
    assert names.names == ("bath towel", "t-shirt")


def test_own_classes_by_name_number_or_file(tmp_path):
    file = tmp_path / "kept.txt"
    file.write_text("owl\n0\n")
    pets = info(("cat", "dog", "owl"))
    assert class_names.candidate_classes(pets, only=str(file)) == class_names.candidate_classes(pets, only=("cat", 2))
    assert class_names.candidate_classes(pets).protocol == ""


def test_a_set_without_names_needs_them():
    with pytest.raises(UserError, match="does not name its classes"):
        class_names.candidate_classes(info((), 3))
    assert class_names.candidate_classes(info((), 3), names=("a", "b", "c")).names == ("a", "b", "c")
