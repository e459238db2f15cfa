"""`jaxvision verify`: what it names in a workdir, and what it repairs when asked."""

import json
import os
import re

import pytest
from saved_runs import CONFIG, contents, largest

from jaxvision import workdir as workdirs
from jaxvision.commands import verify
from jaxvision.errors import UserError
from jaxvision.train import digests


def verified(run, capsys, **options):
    """Returns the exit status and the lines of `verify`."""
    code = verify.run_verify(run, **options)
    lines = capsys.readouterr().out.splitlines()
    return code, lines


def test_verify_finds_nothing_in_a_whole_run(run, capsys):
    before = contents(run)
    code, lines = verified(run, capsys)
    assert code == 0
    assert [line.split()[:2] for line in lines[:-1]] == [
        ["good", name] for name in ("checkpoints/3", "checkpoints/6", "config.json", "run.json", "metrics.jsonl")
    ]
    assert lines[-1] == f"{run}: everything is good"
    assert contents(run) == before


def test_verify_names_each_thing_and_repairs_only_when_asked(run, capsys):
    os.truncate(largest(run / "checkpoints" / "6"), 10)
    (run / "checkpoints" / "3" / digests.NAME).unlink()
    (run / "checkpoints" / "00045").mkdir()
    workdirs.write_json(run / "config.json", CONFIG | {"seed": 1})
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')
    before = contents(run)
    code, lines = verified(run, capsys)
    assert code == 2
    assert contents(run) == before
    starts = {line.split()[1]: (line.split()[0], line) for line in lines[:-1]}
    expected = {
        "checkpoints/3/digests.json": ("warning", "it was deleted"),
        "checkpoints/6": ("DAMAGED", "10 bytes of"),
        "checkpoints/00045": ("warning", "left alone"),
        "config.json": ("DAMAGED", "seed: 0 -> 1"),
        "run.json": ("good", "1 launches"),
    }
    for name, (state, words) in expected.items():
        assert starts[name][0] == state
        assert words in starts[name][1]
    assert '\'{"step": 7, "lo\'' in starts["metrics.jsonl"][1] or "cut off" in "\n".join(lines)

    code, lines = verified(run, capsys, repair=True)
    assert sum(line.startswith("repaired") for line in lines) == 4, lines
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"3", "damaged-6-1", "00045"}
    assert workdirs.saved_config(run).seed == 0
    assert json.loads((run / "damaged-config-1.json").read_text())["seed"] == 1
    assert (run / "metrics.jsonl").read_text() == '{"step": 3, "loss": 1.5}\n{"step": 6, "loss": 1.0}\n'
    code, _ = verified(run, capsys)
    assert code == 3  # the foreign folder


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"step": 3, "loss": 1}\n{"step": 6, "loss": 1}\n{"step": 3, "x": 1}\n', "its steps are not in order: 3"),
        ('{"step": 3, "loss": 1}\n{"step": 3, "loss": 1}\n{"step": 6, "loss": 1}\n', "numbers twice, for the steps 3"),
        ('{"step": 3, "loss": 1}\nnonsense\n{"step": 6, "loss": 1}\n', "1 of its lines are not metrics: line 2"),
        ('{"step": 6, "loss": 1}\n', "1 of 2 lines of log are missing: steps 3"),
        ('{"step": 3, "loss": 1}\n{"step": 6, "loss": 1}\n{"step": 9, "loss": 1}\n', "1 lines are after checkpoint 6"),
    ],
)
def test_verify_reads_the_metrics(run, capsys, text, words):
    (run / "metrics.jsonl").write_text(text)
    _, lines = verified(run, capsys)
    assert any("metrics.jsonl" in line and words in line for line in lines), lines


@pytest.mark.parametrize("name", ["run.json", "results.json"])
def test_verify_names_a_file_that_cannot_be_read(run, capsys, name):
    (run / name).write_text('{"steps": 6, ')
    code, lines = verified(run, capsys)
    assert code == 2
    assert any(line.startswith(f"DAMAGED  {name}") and "is not JSON" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "results.json",
            {"steps": 6, "seconds": 1.0, "results": {"a": "b"}},
            "DAMAGED  results.json .*'a' is not a number",
        ),
        ("results.json", {"steps": "6", "seconds": 1.0, "results": {}}, "DAMAGED  results.json .*'steps' is '6'"),
        ("run.json", {"launches": [7]}, "DAMAGED  run.json .*without 'start_step'"),
        ("run.json", {"launches": [{"start_step": 0, "goodput": 7}]}, "warning  run.json .*1 launches; the times"),
    ],
)
def test_verify_names_what_train_cannot_use(run, capsys, name, content, words):
    workdirs.write_json(run / name, content)
    _, lines = verified(run, capsys)
    assert any(re.match(words, line) for line in lines), lines


def test_verify_of_no_run(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        verify.run_verify(tmp_path)
