"""`jaxvision data`: its verbs do their work from the command line, and say what they take."""

import pytest

from jaxvision.cli import main
from jaxvision.commands import data
from jaxvision.data import open_source
from jaxvision.errors import UserError

SHAPES = "{'image_size': 32, 'train': 6, 'validation': 2, 'test': 2}"


def test_cache_and_what_it_prints(tmp_path, capsys):
    flags = dict(name="shapes", split="train,test", host="decode|resize(16)", out=str(tmp_path / "small"))
    data.run_data(["cache"], {**flags, "data_dir": str(tmp_path), "options": SHAPES, "format": "png"})
    assert f"data = dict(name='shapes_copy', data_dir='{tmp_path / 'small'}', ...)" in capsys.readouterr().out
    assert len(open_source("shapes_copy", "train", data_dir=str(tmp_path / "small"))) == 6
    with pytest.raises(UserError, match="exists already"):
        data.run_data(["cache"], {**flags, "data_dir": str(tmp_path), "options": SHAPES})


def test_the_command_line_hands_words_and_given_flags_on(monkeypatch):
    calls = []
    monkeypatch.setattr(data, "run_data", lambda *arguments: calls.append(arguments))
    main(["jaxvision", "data", "convert", "a", "b"])
    main(["jaxvision", "data", "cache", "--quality=80", "--name", "shapes", "--max_bad_fraction=0.1"])
    assert calls == [
        (["convert", "a", "b"], {}),
        (["cache"], {"quality": 80, "name": "shapes", "max_bad_fraction": 0.1}),
    ]


def test_an_error_of_a_verb_is_one_of_the_command_line(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["jaxvision", "data", "prepare", "mnis"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("jaxvision: TFDS has no data set 'mnis'; did you mean 'mnist'?")


@pytest.mark.parametrize("words", [[], ["convrt"]])
def test_the_verbs_are_listed_where_none_or_a_wrong_one_is_given(words):
    with pytest.raises(UserError) as error:
        data.run_data(words, {})
    for usage in ("data prepare NAME [--data_dir=...]", "data convert SRC OUT", "data cache --name=... --split=..."):
        assert usage in str(error.value)
    assert ("did you mean 'convert'" in str(error.value)) == bool(words)


@pytest.mark.parametrize(
    ("words", "flags", "message"),
    [
        (["convert", "a"], {}, r"missing argument OUT. Usage: jaxvision data convert SRC OUT"),
        (
            ["convert", "a", "b"],
            {"quality": 3},
            "data convert: no argument is named 'quality'. Usage: jaxvision data convert SRC OUT",
        ),
        (["prepare", "a", "b"], {}, "2 arguments without a name, but it takes at most 1"),
        (["prepare", "mnis"], {}, "did you mean 'mnist'"),
        (["convert", "absent", "b"], {}, "no dataset_info.json in absent"),
        (
            ["cache"],
            dict(name="shapes", split="train", host="decode", out="b", options="[1]"),
            "--options must be a dict",
        ),
    ],
)
def test_wrong_words_and_flags(words, flags, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=message):
        data.run_data(words, flags)
    assert not any(tmp_path.iterdir())
