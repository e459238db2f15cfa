"""`jaxvision inspect` shows what would run."""

import pytest

from jaxvision.commands import inspect
from jaxvision.config import override
from jaxvision.errors import UserError


def test_everything_is_shown(config, capsys):
    inspect.run_inspect(config)
    out = capsys.readouterr().out
    for text in (
        "parameters: 5,006",
        "trainable: 5,006",
        "shapes train, 80 examples, 10 classes",
        "6 steps of 16 = 1.20 epochs = 96 examples",
        "evaluation: host 'decode', augment 'normalize(0.5, 0.5)'",
        "mesh: data=8 x fsdp=1 x tensor=1",
        "GFLOPs",
        "memory of the compiled step",
    ):
        assert text in out, f"{text!r} is not in\n{out}"


def test_an_absent_data_set(config, tmp_path, capsys):
    absent = override(config, {"data.name": "imagenet2012"})
    with absent.unlocked():
        absent.data.update(classes=1000, examples=1_281_167, image_size=32, host="decode|random_resized_crop(24)")
        del absent.data.options
    inspect.run_inspect(absent, compile_step=False)
    out = capsys.readouterr().out
    assert "1,281,167 examples, 1000 classes; the set is not here" in out
    assert "the data set 'imagenet2012' is not prepared" in out  # so a misspelt name is seen, too
    assert "uint8[16, 24, 24, 3]" in out
    with pytest.raises(UserError, match="--pages needs the data set"):
        inspect.run_inspect(absent, pages=str(tmp_path), compile_step=False)
    assert not list(tmp_path.iterdir())
    del absent.data.classes
    with pytest.raises(UserError, match="imagenet2012"):
        inspect.run_inspect(absent)


def test_an_absent_set_and_its_absent_tokenizer(config, capsys):
    host = "decode|tokenize('clip', 9, path='not/here.txt.gz')"
    config.data = dict(
        name="webdataset", split="train", host=host, fields=("image", "tokens"), examples=100, batch_size=16
    )
    config.model = dict(
        name="two_towers",
        image=dict(name="resnet", variant="8", width=0.25),
        text=dict(name="text_transformer", variant="mu", vocab_size=11, length=9),
        embedding=4,
    )
    config.task = dict(name="image_text", loss="softmax")
    config.evals = {}
    inspect.run_inspect(config, compile_step=False)
    out = capsys.readouterr().out
    assert "100 examples, no classes; the set is not here" in out
    assert "tokens int32[16, 9]" in out
    assert host[:-1] in out  # the file is not read: as the data set, it may lie on another machine


def test_frozen_parameters_are_not_trainable(config, capsys):
    config.optimizer.freeze = (("^stem", True), (".*", False))
    inspect.run_inspect(config, compile_step=False)
    out = capsys.readouterr().out
    assert "parameters: 5,006" in out
    assert "trainable: 4,890" in out


def test_what_init_freezes_is_not_trainable(config, capsys):
    with config.unlocked():
        config.init = dict(weights="not/read/here", head="new", freeze="backbone")
    inspect.run_inspect(config, compile_step=False)
    assert "trainable: 170" in capsys.readouterr().out  # 16 features to 10 classes
