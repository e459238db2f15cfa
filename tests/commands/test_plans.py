"""`inspect --devices`: what a run needs on devices that are not here."""

import re
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from jaxvision import cli, experiment
from jaxvision.analysis import plan
from jaxvision.commands import inspect, plans
from jaxvision.config import override
from jaxvision.errors import UserError
from jaxvision.hardware import CHIPS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def planned(config, capsys, **options):
    inspect.run_inspect(config, planned=True, **options)
    return capsys.readouterr().out


def row(out, begin):
    """The cells of the row of a table that begins with a text."""
    line = next(line for line in out.splitlines() if re.match(rf"│ {re.escape(begin)}\s", line))
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_a_small_run_on_eight_devices(config, capsys):
    out = planned(config, capsys, device_kind="v5e")
    assert float(row(out, "parameters  ")[1].replace(",", "")) == pytest.approx(5006 * 4 / 2**20, abs=0.05)
    assert "temporaries, with 0 MiB of gradients" in out
    assert "compiling for 8 simulated devices" in out
    assert row(out, "all-reduce")[1] == "data"
    assert row(out, "8 v5e")[2] == "yes"
    assert "25 to 10 % of the peak in float32, as models of convolutions reach" in out
    assert "hosts: the set is held in memory" in out


def test_the_memory_of_a_device_is_that_of_the_compiled_program(config):
    built = experiment.build(config)
    state = built.abstract_state()
    memory = plans.compile_step(built, built.step(), state).memory_analysis()
    batch = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(built.batch)) / jax.device_count()
    assert memory.argument_size_in_bytes == pytest.approx(plan.device_bytes(state) + batch, rel=0.02)


def test_fsdp_splits_what_a_device_holds(config, capsys):
    wide = override(config, {"model.width": 2.0})
    whole = planned(wide, capsys, compile_step=False)
    split = planned(override(wide, {"mesh.fsdp": 8, "mesh.data": 1, "mesh.rules": "fsdp"}), capsys, compile_step=False)
    size = lambda out, name: float(row(out, name)[1].replace(",", ""))
    assert size(split, "parameters  ") < 0.3 * size(whole, "parameters  ")
    assert size(split, "optimizer state") < 0.3 * size(whole, "optimizer state")
    assert "'fsdp'" in split


def test_what_needs_no_compilation_is_shown_without_it(config, capsys):
    out = planned(config, capsys, compile_step=False)
    assert "left out without compilation: memory of activations, list of collectives" in out
    assert row(out, "sum, without activations")
    for name in plans.SHOWN:
        assert row(out, f"8 {name}")[2] == "not known"


def test_a_set_that_is_streamed_needs_cores_and_a_disk(config, capsys):
    streamed = override(config, {"data.resident": "never"})
    out = planned(streamed, capsys, compile_step=False, device_kind="H100")
    assert re.search(r"hosts: [\d,]+ images a second and core, \d+ kB an image \(measured here on 48\)", out)
    assert re.search(r"8 H100: the host reads [\d., to]+ MB/s and needs [\d., to]+ cores to decode", out)


def test_an_absent_set_is_taken_for_imagenet(config, capsys):
    absent = override(config, {"data.name": "imagenet2012"})
    with absent.unlocked():
        absent.data.update(classes=10, examples=1_281_167, image_size=32, host="decode|random_resized_crop(24)")
        del absent.data.options
    out = planned(absent, capsys, compile_step=False)
    assert "723 images a second and core, 108 kB an image (assumed, as for ImageNet at 224 pixels)" in out


def test_a_tensor_axis_that_would_cross_hosts(config):
    config.mesh = dict(data=1, tensor=8)
    built = experiment.build(config)
    with pytest.raises(UserError, match="mesh.tensor=8 would cross hosts, each of 4 v4: it must divide 4"):
        plans.check(built, {"v4": CHIPS["v4"]})
    plans.check(built, {"v5e": CHIPS["v5e"]})


def test_hosts_that_are_not_full(config):
    built = experiment.build(config)
    odd = built._replace(mesh=jax.sharding.AbstractMesh((6, 1, 1), ("data", "fsdp", "tensor")))
    with pytest.raises(UserError, match="6 devices do not fill hosts of 4 v4: try 8"):
        plans.check(odd, {"v4": CHIPS["v4"]})


def test_kinds_whose_hosts_are_not_full_are_left_out(config, capsys):
    """As if they were named: 12 devices fill three hosts of v4, and no number of servers of 8."""
    built = experiment.build(config)
    twelve = built._replace(mesh=jax.sharding.AbstractMesh((12, 1, 1), ("data", "fsdp", "tensor")))
    twelve = twelve._replace(data=twelve.data._replace(batch_size=48))
    assert list(plans._fitting(twelve, plans.chips_of(None))) == ["v4", "v5p"]
    out = " ".join(capsys.readouterr().out.split())
    assert "H100 is left out: 12 devices do not fill hosts of 8 H100: try 16" in out
    with pytest.raises(UserError, match="12 devices do not fill hosts of 8 H100: try 16"):
        plans._fitting(twelve, plans.chips_of("H100"))


def test_without_a_named_kind_those_whose_hosts_do_not_fit_have_no_row(config, capsys):
    out = planned(override(config, {"mesh.data": 1, "mesh.tensor": 8}), capsys, compile_step=False)
    assert "v4 is left out: mesh.tensor=8 would cross hosts, each of 4 v4: it must divide 4" in " ".join(out.split())
    assert row(out, "8 H100")
    assert not re.search(r"8 v4|8 v5p", out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--device_kind=H10"], "unknown device kind 'H10'; did you mean 'H100'"),
        (["--devices=0"], "--devices must be a whole number of at least 1, not '0'"),
    ],
)
def test_mistakes(words, message, config_file, capsys):
    with pytest.raises(SystemExit) as error:
        cli.main(["jaxvision", "inspect", f"--config={config_file}", *words])
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_from_the_command_line_on_one_device(config_file, tmp_path):
    """The devices are simulated before JAX is in use, whatever the environment says."""
    command = [sys.executable, "-m", "jaxvision", "inspect", f"--config={config_file}", "--nocompile"]
    done = subprocess.run([*command, "--devices=16", "--device_kind=a100"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "mesh: data=16 x fsdp=1 x tensor=1" in done.stdout
    assert row(done.stdout, "16 a100")


def readme_command():
    found = re.search(r"jaxvision train --config=(configs/\S+vit_b16\S+) --workdir=\.\.\. \\\n\s+(.*)", README)
    return [f"--config={ROOT / found[1]}", *found[2].split()]


@pytest.mark.parametrize(
    "more", [["--config.model.depth=1"], pytest.param([], marks=pytest.mark.slow)], ids=["one layer", "whole"]
)
def test_the_line_of_the_readme_on_a_computer_without_its_devices_and_data(more, capsys):
    cli.main(["jaxvision", "inspect", *readme_command(), "--devices=8", "--device_kind=H100", "--nocompile", *more])
    out = capsys.readouterr().out
    assert "mesh: data=1 x fsdp=8 x tensor=1" in out
    assert "the set is not here" in out
    assert row(out, "8 H100")
