"""`jaxvision export`: the file gives the model's numbers to a program that does not know jaxvision."""

import json
import re
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import jaxvision
from jaxvision.commands import export
from jaxvision.errors import UserError


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    pytest.importorskip("flatbuffers")
    out = tmp_path_factory.mktemp("exported") / "a model"
    return out, export.run_export(trained[0], out)


def test_the_file_gives_the_numbers_of_the_model_for_any_batch(exported, trained):
    out, meta = exported
    program = jax.export.deserialize(bytearray((out / "model.stablehlo").read_bytes()))
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    model = jaxvision.load(trained[0])
    for n in (1, 5):
        found = program.call(images[:n])
        np.testing.assert_allclose(found["logits"], model(images[:n]).logits, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(found["features"], model.features(images[:n]), rtol=1e-4, atol=1e-5)
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert meta["platforms"] == ["cpu", "cuda", "tpu"]
    assert meta["compared"]["platform"] == jax.default_backend()  # not those of other devices
    assert meta["classes"] == list(model.classes)
    assert meta["outputs"]["logits"] == {"shape": ["b", 10], "dtype": "float32"}
    assert meta["compared"]["largest_difference"]["logits"] <= 1e-4 * meta["compared"]["largest_value"]["logits"]
    assert json.loads((out / "model.json").read_text()) == meta


EXPORT_PAGE = (Path(__file__).parents[2] / "docs" / "export.md").read_text()
# Lets a program import what JAX needs and flatbuffers, or less; and nothing else of what is installed here.
ONLY = """
import importlib.metadata, re, sys
import importlib.abc

def needed(name, found):
    if name not in found:
        found.add(name)
        for line in importlib.metadata.requires(name) or ():
            if "extra ==" not in line:
                needed(re.match(r"[\\w.-]+", line)[0], found)
    return found

allowed = set().union(*(needed(name, set()) for name in sys.argv[1:]))
allowed = {re.sub(r"[-_.]+", "-", name).lower() for name in allowed}
owners = importlib.metadata.packages_distributions()

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, *_):
        of = {re.sub(r"[-_.]+", "-", one).lower() for one in owners.get(name.partition(".")[0], ())}
        if of and not of & allowed or name.partition(".")[0] == "jaxvision":
            raise ImportError(f"{name} is not among {sorted(allowed)}")

sys.meta_path.insert(0, Refuse())
"""


def read_with(exported, tmp_path, *packages):
    (program,) = re.findall(r"```python\n(.*?)```", EXPORT_PAGE, re.DOTALL)
    (tmp_path / "exported").symlink_to(exported[0])
    command = [sys.executable, "-c", ONLY + program, *packages]
    return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)


def test_a_program_with_nothing_but_jax_and_flatbuffers_reads_it(exported, tmp_path):
    """Neither jaxvision nor Flax, as after the line of the page that installs them."""
    (installed,) = re.findall(r"`pip install (jax .*?)`", EXPORT_PAGE)
    said = read_with(exported, tmp_path, *installed.split())
    assert said.returncode == 0, said.stderr
    classes, difference = said.stdout.strip().splitlines()
    assert len(eval(classes)) == 4
    assert float(difference) < 1e-4


def test_jax_alone_does_not_read_it_as_the_page_says(exported, tmp_path):
    said = read_with(exported, tmp_path, "jax")
    assert said.returncode != 0
    assert re.search("ImportError: .*flatbuffers", said.stderr)


def test_photos_and_outputs_may_be_named(trained, tmp_path, capsys):
    pytest.importorskip("flatbuffers")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)).save(tmp_path / "a.png")
    meta = export.run_export(trained[0], tmp_path / "out", images=str(tmp_path / "a.png"), outputs=["stages/1"])
    assert list(meta["outputs"]) == ["stages/1"]
    assert meta["compared"]["images"] == [str(tmp_path / "a.png")]
    assert "differs from the model by at most" in capsys.readouterr().out


def test_what_differs_is_refused(trained, tmp_path, monkeypatch):
    pytest.importorskip("flatbuffers")
    monkeypatch.setattr(
        export,
        "_stablehlo",
        lambda function, shape: (b"", lambda x: jax.tree.map(lambda y: y + 1, jax.jit(function)(x))),
    )
    with pytest.raises(UserError, match=r"would differ from the model: features by 1, .* Nothing was written"):
        export.run_export(trained[0], tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(form="tflite"), "unknown value of --format 'tflite'"),
        (dict(outputs=["logit"]), "unknown output of --outputs 'logit'; did you mean 'logits'"),
    ],
)
def test_mistakes_are_named(trained, tmp_path, arguments, message):
    pytest.importorskip("flatbuffers")
    with pytest.raises(UserError, match=message):
        export.run_export(trained[0], tmp_path / "out", **arguments)


def test_onnx_without_its_library_says_what_to_install(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(export.export_onnx, "LIBRARIES", ("jax2onnx", "no_such_library"))
    with pytest.raises(UserError, match=r"no_such_library: pip install 'jaxvision\[onnx\]'"):
        export.run_export(trained[0], tmp_path / "out", form="onnx")


def test_onnx_gives_the_numbers_of_the_model(trained, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("jax2onnx")
    export.run_export(trained[0], tmp_path / "out", form="onnx")
    session = onnxruntime.InferenceSession(tmp_path / "out/model.onnx")
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    (logits,) = session.run(["logits"], {"images": images})
    np.testing.assert_allclose(logits, jaxvision.load(trained[0])(images).logits, rtol=1e-3, atol=1e-4)
