"""`jaxvision help NAME`: from signatures and docstrings, for parts, keys, files, and a user's own."""

import contextlib
import pkgutil
import re

import pytest

from jaxvision.commands import catalog, config_keys, describe
from jaxvision.commands.help import RULE, run_help
from jaxvision.errors import UserError

KINDS = {word: kind for word, kind in catalog.kinds().items() if kind.registry}


@pytest.mark.parametrize("word", KINDS)
def test_every_part_is_described_with_all_its_options(word):
    for entry in catalog.entries(word):
        text = describe.part(KINDS[word], entry)
        assert text.startswith(f"{KINDS[word].kind} {entry.name}: ")
        options = re.findall(r"^  (?=\S)\W*(\w+).*\n(.*)", text.partition("Options:\n")[2].partition("\n\n")[0], re.M)
        given = text.partition("Given by the program:\n")[2].partition("\n\n")[0].strip()
        assert {name for name, _ in options} | set(given.split(", ")) >= set(entry.options)
        assert [name for name, line in options if not line.startswith("      ")] == [], (
            "an option without a description"
        )


def in_the_source(text, module):
    """Names in a text that only a reader of the source of a module knows, such as `resizing.METHODS`."""
    found = []
    for name in re.findall(r"`([A-Za-z_][\w.]*)(?:\(\))?`", text):
        for parts in range(module.count(".") + 1, 0, -1) if "." in name or name.isupper() else ():
            with contextlib.suppress(ImportError, AttributeError):
                around = ".".join(module.split(".")[:parts])
                first = pkgutil.resolve_name(f"{around}.{name.partition('.')[0]}")
                pkgutil.resolve_name(f"{around}.{name}")
                found += [name] if getattr(first, "__name__", "jaxvision").startswith("jaxvision") else []  # no library
                break
    return found


@pytest.mark.parametrize("word", KINDS)
def test_help_names_nothing_that_is_only_in_the_source(word):
    for entry in catalog.entries(word):
        assert in_the_source(describe.part(KINDS[word], entry), entry.module) == [], entry.name


def test_help_of_keys_names_nothing_that_is_only_in_the_source():
    assert in_the_source("one of `resizing.METHODS`, see `cut`", "jaxvision.data.host_ops.resize") == [
        "resizing.METHODS"
    ]
    for place in config_keys.every():
        for text in config_keys.describe_key(place.path):
            assert in_the_source(text, "jaxvision.sections") == [], place.path


def test_choices_are_those_of_the_code():
    for names, words in {
        ("host", "resize"): "method='bilinear' (a text) Filter, one of bilinear, bicubic, opencv_",
        ("augmentation", "resize"): 'Interpolation, "nearest" or one of linear, cubic, lanczos3, lanczos5',
        ("host", "decode"): "The format is one of JPEG, PNG",
        ("init.source",): "Library that wrote the file, one of jaxvision, timm,",
    }.items():
        assert words in " ".join(run_help(*names).split()), names  # wherever lines break


def test_a_part_is_shown_with_types_defaults_source_and_how_to_name_it():
    text = run_help("vit")
    for part in (
        "variant='B/16'  (a text)",
        "depth=None  (a whole number or None)",
        "Number of blocks; None for the variant's.",
        "Raises:\n  UserError: ",
        "Source:\n  Vision Transformer: Dosovitskiy et al. 2021, arXiv 2010.11929",
        'In a config:\n  c.model = dict(name="vit")',
        "Given by the program:\n  num_classes, dtype",
    ):
        assert part in text
    assert "num_classes=" not in text.partition("Options:")[2].partition("Given by")[0]


def test_an_operation_is_written_as_a_call_with_what_it_needs():
    text = run_help("augmentation", "random_crop")
    assert "size  (required)\n      Side of the window" in text
    assert "padding=0  (a whole number)" in text
    assert 'c.augment = "random_crop(SIZE)"' in text
    assert "Named in:\n  configs/image_text/cifar10_class_names.py," in text


def test_a_name_of_two_kinds_shows_both_and_its_kind_chooses_one():
    assert run_help("normalize").count(RULE) == 0
    both = run_help("resize")
    assert "augmentation resize: " in both
    assert "host operation resize: " in both
    assert RULE not in run_help("host", "resize")


def test_a_section_that_is_also_a_command_shows_both():
    text = run_help("data", others=["the help of the command"])
    assert text.startswith(f"the help of the command{RULE}config section data")
    assert "batch_size  (a whole number of at least 1, required)" in text


@pytest.mark.parametrize(
    ("key", "parts"),
    [
        ("train.ema", ["config key train.ema", "ema=None  (a number or None)", "--config.train.ema=VALUE"]),
        ("config.train.ema", ["config key train.ema"]),
        ("ema", ["config key train.ema"]),
        ("seed", ["config key seed", "seed=0  (a whole number)"]),
        ("augment", ["config key augment", "Spec of the augmentation"]),
        ("optimizer.learning_rate", ["learning_rate  (a number of at least 0, required)", "Peak of the schedule"]),
        ("optimizer.momentum", ["an option of the optimizer sgd", "an option of the optimizer lars"]),
        ("optimizer.players.generator.learning_rate", ["Peak of the schedule"]),
        ("model.patch_bias", ["an option of the model vit"]),
        ("model.text.depth", ["an option of the text model text_transformer"]),
        ("data.options.image_size", ["an option of the data set shapes"]),
        ("data.subset.per_class", ["per_class"]),
        ("evals.val.every", ["Duration between two evaluations"]),
        ("evals.every", ["Duration between two evaluations"]),
        ("evals.val.k", ["an option of the evaluator knn"]),
        ("evals", ["entries by a name of your choice", "options of the evaluator that it names"]),
        ("model", ["options of the model that it names", "wide_resnet"]),
        ("train", ["config section train", "length, precision and safety of the run."]),
        ("config", ["Spec of the augmentation", "optimizer  (a dict(...), required)"]),
        ("label_smoothing", ["option of"]),
    ],
)
def test_a_key_of_a_config(key, parts):
    text = run_help(key)
    for part in parts:
        assert part in text


def test_every_key_that_a_config_may_have_is_described():
    places = list(config_keys.every())
    assert len(places) > 50
    for place in places:
        (text,) = config_keys.describe_key(place.path)[:1]
        assert re.search(r"^      \S", text, re.MULTILINE) or place.kind, place.path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("vitt", "nothing is called 'vitt'; did you mean 'vit'"),
        ("optimizer.learning_rte", "no config key 'optimizer.learning_rte'; did you mean 'learning_rate'"),
        ("train.momentum", "no config key 'train.momentum'"),
        ("vit:Q", "unknown variant 'vit:Q'"),
        ("no_such_module:function", "the part 'no_such_module:function' cannot be found"),
        ("configs/absent.py", "no config file 'configs/absent.py' (looked in "),
        ("model.dtype", "no config key 'model.dtype'"),
    ],
)
def test_what_is_not_there_is_an_error(name, message):
    with pytest.raises(UserError, match=re.escape(message)):
        run_help(name)


def test_a_kind_and_a_name_that_it_does_not_have():
    with pytest.raises(UserError, match="unknown optimizer 'vit'"):
        run_help("optimizers", "vit")


@pytest.mark.parametrize("name", ["vit:S/16", "vit:S/8", "resnet:50", "two_towers:clip_vit_b32"])
def test_a_variant_is_that_of_its_model(name):
    text = run_help(name)
    assert text.startswith(f"variant {name}: ") or name == "vit:S/8"
    assert f"model {name.partition(':')[0]}: " in text


def test_a_part_of_ones_own(tmp_path, monkeypatch):
    (tmp_path / "own_help_parts.py").write_text(
        "from jaxvision.registry import part\n\n@part('model')\n"
        "def tiny(*, num_classes, dtype, width: int = 8):\n"
        '    """A tiny model.\n\n    Args:\n      width: Number of channels.\n    """\n'
    )
    monkeypatch.chdir(tmp_path)
    text = run_help("own_help_parts:tiny")
    assert text.startswith("model own_help_parts:tiny: A tiny model.")
    assert "width=8  (a whole number)\n      Number of channels." in text


def test_a_config_file_and_a_study_show_their_docstrings(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = run_help("configs/supervised/vit_b16_imagenet2012.py:90")
    assert "Expected:" in text
    assert "90, 300" in text
    assert "Presets, for --preset:\n" in run_help("random_search")
    assert "adamw" in run_help("optimizers")
