"""Configs: loading, overriding, comparing, saving."""

import pytest
from ml_collections import ConfigDict
from shrinking import shrink

from jaxvision import config as configs
from jaxvision.errors import UserError


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "c.py"
    path.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config(arg='a'):\n"
        "    return ConfigDict(dict(seed=0, model=dict(name=arg), optimizer=dict(rate=0.1, rules=(('x', 1.0),))))\n"
    )
    return path


def test_load_with_argument_and_overrides(file):
    assert configs.load(str(file)).model.name == "a"
    config = configs.load(f"{file}:b", {"optimizer.rate": 1, "seed": 3})
    assert (config.model.name, config.optimizer.rate, config.seed) == ("b", 1, 3)


def test_errors_of_loading(file, tmp_path):
    with pytest.raises(UserError, match="no config file"):
        configs.load(str(tmp_path / "absent.py"))
    (tmp_path / "empty.py").write_text("x = 1")
    with pytest.raises(UserError, match="defines no get_config"):
        configs.load(str(tmp_path / "empty.py"))
    with pytest.raises(UserError, match="no key 'optimizer.rat'; did you mean 'optimizer.rate'"):
        configs.load(str(file), {"optimizer.rat": 1})


def test_the_config_of_a_run_is_a_config_file(file, tmp_path):
    config = configs.load(f"{file}:b")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(configs.to_json(config))
    again = configs.load(f"{tmp_path}/run/config.json", {"seed": 5})
    assert configs.differences(config, again) == ["seed: 0 -> 5"]
    with pytest.raises(UserError, match=r"is the folder of a run: --config=.*run/config.json"):
        configs.load(str(tmp_path / "run"))
    (tmp_path / "run" / "config.json").write_text('["a"]')
    with pytest.raises(UserError, match=r"config.json holds \['a'\], not an object"):
        configs.load(f"{tmp_path}/run/config.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config():\n    return {'a': ", r"c.py:2: SyntaxError: .*return"),
        ("import numpi", r"c.py:1: ModuleNotFoundError: No module named 'numpi' \(import numpi\)"),
        ("def get_config():\n    x = {}\n    return x['rate']", r"c.py:3: KeyError: 'rate' \(return x\['rate'\]\)"),
        ("import json\ndef get_config():\n    return json.loads('{')", r"c.py:3: JSONDecodeError: "),
        ("def get_config():\n    c = {}", r"must return a ConfigDict, not NoneType: is its last line 'return c'"),
        ("def get_config():\n    return [1]", "must return a ConfigDict, not list"),
        ("def get_config(a, b):\n    return {}", r"get_config\(a, b\) of .* must take one argument"),
        ("def get_config(arg):\n    return {}", r"c.py needs an argument: c.py:ARG"),
        ("def get_confg():\n    return {}", r"defines no get_config\(arg\); did you mean 'get_confg'"),
        ("get_config = 3", r"defines no get_config\(arg\)"),
        ("def get_config():\n    return {'a': {'b': {1, 2}}}", r"c.py: a.b must be a number, a text"),
        ("def get_config():\n    return {'a': {'b': ''}}", r"c.py: a.b is empty: was a variable not set\? Give it a"),
        ("def get_config():\n    return {'augment': ' '}", r"augment is empty: was a variable not set\? Write 'none'"),
        ("def get_config():\n    return {'a': [1, ['']]}", r"a is empty"),
    ],
)
def test_a_config_file_that_fails_is_one_line(tmp_path, text, message):
    (tmp_path / "c.py").write_text(text)
    with pytest.raises(UserError, match=message) as error:
        configs.load(str(tmp_path / "c.py"))
    assert "\n" not in str(error.value)


def test_paths_that_are_no_config_file(file, tmp_path):
    (tmp_path / "c.yaml").write_text("seed: 0")
    for path, message in {
        str(tmp_path): "is a folder, not a config file",
        f"{tmp_path}/c.yaml": "is not a Python file: give FILE.py",
        f"{tmp_path}/d.py": "no config file .*; did you mean 'c.py'",
        f"{file}:": "the argument after the colon is empty",
        "": "is empty",
    }.items():
        with pytest.raises(UserError, match=message):
            configs.load(path)


def test_numbers_of_numpy_and_lists_become_plain(tmp_path):
    (tmp_path / "c.py").write_text(
        "import numpy as np\n"
        "def get_config():\n"
        "    return dict(width=np.int64(8), rate=np.float32(0.3), on=np.bool_(True), rules=[['x', np.array([1, 2])]])\n"
    )
    config = configs.load(str(tmp_path / "c.py"))
    assert config.to_dict() == dict(width=8, rate=0.3, on=True, rules=(("x", (1, 2)),))
    assert [type(config[key]) for key in ("width", "rate", "on")] == [int, float, bool]
    assert configs.differences(configs.saved(configs.to_json(config)), config) == []


def test_a_config_saved_before_units_and_none_were_needed():
    text = """{"augment": "", "train": {"total": 5, "log_every": 0}, "optimizer": {"warmup": "10", "name": "sgd"},
        "evals": {"a": {"every": 3, "host": "", "split": "test"}}, "model": {"depth": 4}}"""
    config = configs.saved(text)
    assert config.augment == config.evals.a.host == "none"
    assert (config.train.total, config.train.log_every) == ("5 steps", 0)
    assert (config.optimizer.warmup, config.evals.a.every, config.model.depth) == ("10 steps", "3 steps", 4)


def test_json_round_trip_keeps_tuples_and_fingerprint(file):
    config = configs.load(str(file))
    again = configs.from_json(configs.to_json(config))
    assert again.optimizer.rules == (("x", 1.0),)
    assert configs.fingerprint(again) == configs.fingerprint(config)
    assert configs.differences(config, again) == []
    assert configs.fingerprint(configs.override(config, {"seed": 1})) != configs.fingerprint(config)


def test_differences_name_keys_on_both_sides(file):
    old, new = configs.load(str(file)), configs.load(str(file), {"optimizer.rate": 0.2})
    with new.unlocked():
        new.optimizer.momentum = 0.9
        del new.seed
    assert sorted(configs.differences(old, new)) == [
        "optimizer.momentum: (absent) -> 0.9",
        "optimizer.rate: 0.1 -> 0.2",
        "seed: 0 -> (absent)",
    ]


def test_call_checks_keys_before_it_calls():
    def function(*, given, needed, other=1):
        return given, needed, other

    section = ConfigDict(dict(needed=2))
    assert configs.call(function, section, "part", given=0) == (0, 2, 1)
    with pytest.raises(UserError, match="has no 'part.needed', which is required"):
        configs.call(function, {}, "part", given=0)
    with pytest.raises(UserError, match="unknown config key 'part.othr'; did you mean 'other'"):
        configs.call(function, {"needed": 1, "othr": 2}, "part", given=0)
    assert configs.call(lambda *, width: width, {"width": 8}, "model") == 8

    def annotated(*, width: int, names: tuple[str, ...] = ()):
        return width, names

    assert configs.call(annotated, {"width": 8, "names": ("a",)}, "model") == (8, ("a",))
    for section, message in {
        "8": "model.width must be a whole number, not '8': write 8 without quotes",
        8.5: "model.width must be a whole number, not 8.5",
        True: "model.width must be a whole number, not True",
    }.items():
        with pytest.raises(UserError, match=message):
            configs.call(annotated, {"width": section}, "model")
    with pytest.raises(UserError, match="'part.given' is set by the program"):
        configs.call(lambda given, **rest: None, {"given": 1}, "part", given=0)


def test_sections():
    with pytest.raises(UserError, match="unknown config key 'config.optimiser'; did you mean 'optimizer'"):
        configs.check_sections(ConfigDict(dict(optimiser={})))
    with pytest.raises(UserError, match="has no section 'data'"):
        configs.check_sections(ConfigDict(dict(seed=0)))


def test_shrink_reaches_the_specs_of_views_and_the_teacher():
    config = ConfigDict(
        dict(
            data=dict(name="x", split="train", batch_size=512, host="decode|resize_short(256)"),
            augment="views(2, ('random_resized_crop(224)|flip_lr', \"resize(224, 'cubic')\"))|normalize",
            model=dict(name="resnet", variant="50"),
            task=dict(name="distill", teacher=dict(name="resnet", variant="50", projection_layers=1)),
            optimizer=dict(warmup="10 epochs"),
            train=dict(total="90 epochs"),
            evals=dict(knn=dict(name="knn", split="test", train_split="train")),
        )
    )
    small = shrink(config, dict(variant="8"), size=32)
    assert small.augment == "views(2, ('random_resized_crop(32)|flip_lr', \"resize(32, 'cubic')\"))|normalize"
    assert small.data.host == "decode|resize_short(32)"
    assert small.task.teacher.to_dict() == dict(name="resnet", variant="8", projection_layers=1)
    assert small.evals.knn.k == (5,)


def test_shrink_reads_texts_as_bytes():
    host = "decode|resize(224)|class_captions('photo', names='x.txt')|tokenize('clip', 9, path='x', caption='first')"
    config = ConfigDict(
        dict(
            data=dict(name="x", split="train", batch_size=512, host=host),
            model=dict(name="two_towers"),
            task=dict(name="image_text"),
            optimizer={},
            train=dict(total="90 epochs"),
        )
    )
    small = shrink(config, {})
    assert small.data.host == "decode|resize(32)|class_captions('photo')|tokenize('bytes', 9, caption='first')"
    assert small.data.options.text == "caption"


def test_shrink_leaves_one_set_of_several():
    sets = dict(v2=dict(data="imagenet_v2", split="test"), r=dict(data="imagenet_r", split="test", only="imagenet_r"))
    config = ConfigDict(
        dict(
            data=dict(name="x", split="train", batch_size=512),
            model=dict(name="two_towers"),
            task=dict(name="image_text"),
            optimizer={},
            train=dict(total="90 epochs"),
            evals=dict(zero=dict(name="zeroshot", prompts=("clip80",), sets=sets, every="1 epoch")),
        )
    )
    small = shrink(config, {}).evals.zero
    assert "sets" not in small
    assert (small.split, small.prompts, small.every) == ("validation", ("photo", "clip7"), "1 epoch")


def test_sections_that_are_none_and_configs_that_hold_themselves():
    with pytest.raises(UserError, match="has no section 'train'"):
        configs.check_sections(ConfigDict(dict(data={}, model={}, task={}, optimizer={}, train=None)))
    config = {}
    config["data"] = config
    with pytest.raises(UserError, match="contains itself"):
        configs.normalised(config)


WRITES = """
import pathlib, sys
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder
def get_config():
    c = ConfigDict(dict(data=dict(split="train", data_dir=placeholder(str), size=3), lr=0.1))
    {line}
    return c
"""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("c.data.split = 5", "x.py:7: split must be a text, like its value before, not 5"),
        ("c.data.size = 'a'", "x.py:7: size must be a whole number, like its value before, not 'a'"),
        ("c.lr = True", "x.py:7: lr must be a number, like its value before, not True"),
        ("c['data']['size'] = False", "x.py:7: size must be a whole number, like its value before, not False"),
        ("c.update(dict(lr=False))", "x.py:7: lr must be a number"),
        ("sys.exit(3)", "x.py:7: the file ends the program"),
        ("'" + chr(0) + "'", "x.py:7 contains a NUL byte"),
    ],
)
def test_what_a_config_file_may_not_do_is_told_with_its_line(line, message, tmp_path):
    (tmp_path / "x.py").write_text(WRITES.format(line=line))
    with pytest.raises(UserError) as error:
        configs.load(str(tmp_path / "x.py"))
    assert message in str(error.value)


def test_a_path_in_a_config_file_is_a_text(tmp_path):
    (tmp_path / "x.py").write_text(WRITES.format(line="c.data.data_dir = pathlib.Path('a') / 'b'; c.lr = 2"))
    before = ConfigDict.__setitem__
    config = configs.load(str(tmp_path / "x.py"))
    assert (config.data.data_dir, config.lr) == ("a/b", 2.0)
    assert ConfigDict.__setitem__ is before


def test_a_truth_value_overrides_no_number():
    with pytest.raises(UserError, match="a.lr must be a number"):
        configs.override(ConfigDict(dict(a=dict(lr=0.1))), {"a.lr": True})
