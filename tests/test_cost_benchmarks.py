"""The benchmarks of steps, evaluations and checkpoints run, at a size where their times mean nothing."""

import argparse
import multiprocessing
import os
import re
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

PASSES = ("forward", "backward", "update")
BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.mark.parametrize(
    ("name", "rows"),
    [
        ("evaluation", ("forward", "classify", "together", "in turn", "each alone")),
        ("checkpoints", ("async", "sync", "begin")),
        ("kernel_gradient", ("used here: ", "tiny  ")),
        pytest.param("self_supervised", ("vit/simclr", "vit/mae"), marks=pytest.mark.slow),
        pytest.param(
            "estimates",
            ("vit_mu4", "rendering: 1/", "a run: ", "loading the step: ", "starting: ", "checkpoints: "),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_benchmark_prints_its_table(name, rows, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--tiny"])
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    runpy.run_path(str(BENCHMARKS / f"{name}.py"), run_name="__main__")
    printed = capsys.readouterr().out.splitlines()
    assert [next(line for line in printed if line.startswith(row)) for row in rows]


@pytest.mark.slow  # pytest -m slow tests/test_cost_benchmarks.py
def test_the_benchmark_of_steps_runs_without_torch(monkeypatch, capsys):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setattr(sys, "argv", ["train_step", "--tiny", "--implementations", "jaxvision"])
    monkeypatch.setattr(sys.stdout, "reconfigure", lambda **options: None, raising=False)
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    runpy.run_path(str(BENCHMARKS / "train_step.py"), run_name="__main__")
    printed = capsys.readouterr().out
    assert "tiny, batch 4" in printed
    assert "tiny_simclr, batch 4" in printed
    assert printed.count("GFLOP a step") == 2


def test_an_implementation_that_fails_gives_its_reason(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    functions = runpy.run_path(str(BENCHMARKS / "train_step.py"))
    ours, theirs = multiprocessing.Pipe()
    functions["serve"](theirs, "jaxvision", "no such network", argparse.Namespace(batch=1))
    with pytest.raises(RuntimeError, match="^KeyError: 'no such network'$"):
        functions["answer_of"](ours, None)
    functions["answer_of"].__globals__["PATIENCE"] = 0.01
    with pytest.raises(RuntimeError, match="the time was up"):
        functions["answer_of"](ours, time.monotonic())
    theirs.close()
    with pytest.raises(RuntimeError, match="its process died"):
        functions["answer_of"](ours, None)


@pytest.mark.slow  # pytest -m slow tests/test_cost_benchmarks.py
def test_the_options_of_speed_do_not_change_the_loss():
    words = ["--tiny", "--only", "ViT not donated", "data in host memory"]
    command = [sys.executable, BENCHMARKS / "options.py", *words]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"JAX_NUM_CPU_DEVICES": "1"})
    losses = {line[:25].strip(): re.findall(r" (\d+\.\d{4})\b", line) for line in done.stdout.splitlines()}
    assert losses.get("ViT float32"), done.stderr
    assert losses.get("data streamed"), done.stdout
    assert losses["ViT not donated"] == losses["ViT float32"]
    assert losses["data in host memory"] == losses["data streamed"]


def test_an_option_that_fails_is_named(monkeypatch):
    monkeypatch.setenv("JAX_ENABLE_COMPILATION_CACHE", "false")
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    functions = runpy.run_path(str(BENCHMARKS / "options.py"))

    def fail(*args):
        raise MemoryError("17 GiB are too much\nand more")

    monkeypatch.setitem(functions["build_all"].__globals__, "build_on_device", fail)
    only, left_out = ["ViT scan", "ViT cuDNN attention"], {}
    args = argparse.Namespace(only=only, precision="float32", networks="tiny", batch=1, steps=4)
    assert functions["build_all"](args, time.monotonic() + 60, left_out) == {}
    assert left_out.pop("ViT cuDNN attention") == "it needs a GPU of NVIDIA"
    assert left_out == dict.fromkeys(("ViT float32", "ViT bfloat16", "ViT scan"), "MemoryError: 17 GiB are too much")
    assert functions["build_all"](args, time.monotonic() - 1, left_out) == {}
    assert left_out["ViT scan"] == "the time was up"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return runpy.run_path(str(BENCHMARKS / "gpu.py"))


def test_the_benchmark_of_a_gpu_runs_on_the_cpu():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "gpu.py", "--tiny", "--only", "vit"], capture_output=True, text=True
    )
    rows = done.stdout.splitlines()[-2:]
    assert [row.split(",")[0] for row in rows] == ["matrix product", "ViT-B/16"], done.stderr
    assert [row.split()[-1][-1] for row in rows] == ["s", "%"]  # TFLOP/s, and a share of them


@pytest.mark.slow  # pytest tests/test_cost_benchmarks.py -m slow -k every_part
def test_every_part_of_the_benchmark_of_a_gpu_runs_on_the_cpu():
    done = subprocess.run(
        [sys.executable, BENCHMARKS / "gpu.py", "--tiny", "--minutes=60"], capture_output=True, text=True
    )
    rows = {line[:62].strip(): line[62:].split(maxsplit=2)[-1] for line in done.stdout.splitlines()[-6:]}
    assert rows["attention='cudnn', time against 'xla'"].endswith("it needs a GPU of NVIDIA"), done.stderr
    assert float(rows["16 runs as a population, speed against one after the other"].split()[-1]) > 0


def test_networks_for_which_there_is_no_time_are_named(gpu, monkeypatch):
    monkeypatch.setattr(gpu["train_step"], "PATIENCE", 0.01)
    monkeypatch.setitem(gpu["against_torch"].__globals__, "_missing", lambda modules, args: "not installed: torch")
    args, late = argparse.Namespace(tiny=True, batch=None), time.monotonic()
    assert [row.found for row in gpu["utilisation"](args, late)] == ["the time was up"]
    assert [row.found for row in gpu["against_torch"]("resnet50", "ResNet-50")(args, late)] == ["the time was up"]


def test_a_part_that_fails_is_named_and_leaves_its_time_to_the_others(gpu):
    ends = []

    def fail(args, end):
        raise MemoryError("no room")

    def give_up(args, end):
        raise gpu["Failed"]("the time was up")

    def succeed(args, end):
        ends.append(end - time.monotonic())
        return [gpu["Row"]("rate", "1")]

    parts = {name: gpu["Part"](100, of) for name, of in {"a": fail, "b": give_up, "c": succeed}.items()}
    rows = gpu["measure"](argparse.Namespace(minutes=1), parts)
    assert [(row.what, row.found) for row in rows] == [
        ("a", "MemoryError: no room"),
        ("b", "the time was up"),
        ("rate", "1"),
    ]
    assert 25 < ends[0] <= 30


def test_a_script_is_killed_when_its_time_is_up(gpu, tmp_path, capsys):
    slow, wrong = tmp_path / "slow.py", tmp_path / "wrong.py"
    slow.write_text("import time\nprint('begun', flush=True)\ntime.sleep(600)\n")
    wrong.write_text("raise SystemExit(3)\n")
    with pytest.raises(gpu["Failed"], match="the time was up"):
        gpu["run_script"]([str(slow)], time.monotonic() + 3)
    assert capsys.readouterr().out == "begun\n"
    with pytest.raises(gpu["Failed"], match="wrong.py ended with status 3"):
        gpu["run_script"]([str(wrong)], time.monotonic() + 60)


def test_without_a_gpu_the_benchmark_says_what_to_do(gpu):
    with pytest.raises(SystemExit, match="JAX finds no NVIDIA GPU here .*--tiny"):
        gpu["find_gpu"]()


@pytest.mark.slow
def test_interpreters_take_turns():
    words = [sys.executable, "--models", "tiny", "--rounds=1", "--steps=1"]
    done = subprocess.run([sys.executable, BENCHMARKS / "interpreters.py", *words], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1].startswith("tiny "), done.stderr


def test_a_profile_shares_out_the_time_of_a_step():
    done = subprocess.run([sys.executable, BENCHMARKS / "step_profile.py", "tiny"], capture_output=True, text=True)
    shares = [line.split() for line in done.stdout.splitlines() if " %  " in line]
    kinds = {" ".join(words[3:]): float(words[1]) for words in shares if words[3] not in (*PASSES, "unknown")}
    assert {"matrix products", "element-wise"} <= set(kinds), done.stderr
    assert sum(kinds.values()) == pytest.approx(100, abs=1)


@pytest.mark.parametrize(
    ("name", "source", "kind"),
    [
        ("transpose_copy_fusion.4", "a/transpose(jvp(R))/conv1/conv_general_dilated", "transposes and copies"),
        ("ynn_fusion.3", "a/jvp(R)/conv1/conv_general_dilated", "convolutions"),
        ("convolution.2", "a/jvp(R)/conv1/conv_general_dilated", "convolutions"),
        ("ynn_fusion", "a/jvp(V)/mlp/dense_0/dot_general", "matrix products"),
        ("dot_general.1", "", "matrix products"),
        ("ynn_fusion.9", "a/transpose(jvp(V))/norm/reduce_sum", "sums and maxima"),
        ("ynn_fusion.10", "", "library, unknown"),
        ("wrapped_reduce-window.10", "", "sums and maxima"),
        ("broadcast_maximum_fusion", "a/jvp(R)/jit(relu)/max", "element-wise"),
        ("wrapped_broadcast.3", "", "broadcasts"),
        ("broadcast.17", "", "broadcasts"),
        ("is-finite_and_fusion.9", "jit(step)/and", "element-wise"),
    ],
)
def test_the_kind_of_an_operation(monkeypatch, name, source, kind):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    assert runpy.run_path(str(BENCHMARKS / "step_profile.py"))["Operation"](name, source).kind == kind


def test_the_benchmark_of_compilations_prints_its_table():
    words = ["--only", "ViT-S/16 scan", "--batch=1", "--size=32", "--rounds=1"]
    done = subprocess.run([sys.executable, BENCHMARKS / "compilation.py", *words], capture_output=True, text=True)
    last = done.stdout.splitlines()[-1]
    assert last.startswith("ViT-S/16 scan"), done.stderr
    trace, compile_, temporary = (float(word.replace(",", "")) for word in last.split()[2::2])
    assert min(trace, compile_, temporary) > 0


def test_a_section_that_is_measured_again_leaves_the_others_as_they_were(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    functions = runpy.run_path(str(BENCHMARKS / "all.py"))
    page = tmp_path / "page.md"
    page.write_text("# Performance\n\n## Start-up\n\nold\n\n## Populations\n\nkept\n")
    monkeypatch.setitem(functions["main"].__globals__, "measure", lambda section, extra: f"## {section.title}\n\nnew")
    monkeypatch.setattr(sys, "argv", ["all", "--only", "startup", f"--page={page}"])
    functions["main"]()
    assert page.read_text().endswith("## Start-up\n\nnew\n\n## Populations\n\nkept\n")


def test_words_of_the_user_reach_a_script_before_options_of_several_values(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    functions = runpy.run_path(str(BENCHMARKS / "all.py"))
    text = functions["measure"](functions["SECTIONS"]["interpreters"], ["/no/such/python"])
    assert "ended with status 1: FileNotFoundError" in text
    assert "'/no/such/python'" in text
