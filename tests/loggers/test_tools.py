"""W&B, MLflow and Comet without a network: what is stored, and that a resumed run is one run.

Each test is skipped where its library is not installed: pip install 'jaxvision[wandb,mlflow,comet]'.
"""

import json
import math
import struct
import time
import zipfile

import pytest

from jaxvision import loggers
from jaxvision.errors import UserError
from jaxvision.loggers.base import Run
from jaxvision.train.observers import Observers

CONFIG = {"seed": 0, "model": {"name": "vit", "sizes": (1, 2)}}


@pytest.fixture
def launch(tmp_path):
    """`launch(name, start, lines, **options)`: a launch of a run that logs lines (step, metrics), and what it said."""
    said = []

    def run(name, start, lines, *, end=None, **options):
        entries = loggers.read_entries({name: options})
        with Observers(entries, Run("study/a", "ab" * 16, tmp_path / "run", CONFIG)) as observers:
            (tmp_path / "run").mkdir(exist_ok=True)
            observers.begin(start, said.append)
            for step, metrics in lines:
                observers("evaluation" if "val/top1" in metrics else "log", step, metrics)
            if end is not None:
                raise end
            observers.results = {"val/top1": 0.5}
        return said

    return run


FIRST = [(1, {"loss": 3.0}), (2, {"loss": 2.0}), (2, {"val/top1": 0.25}), (3, {"loss": 1.5})]
AGAIN = [(3, {"loss": 1.5}), (4, {"loss": math.nan}), (4, {"val/top1": 0.5})]  # from a checkpoint of step 2


def test_mlflow_keeps_one_run_without_repeated_steps(launch, tmp_path):
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    with pytest.raises(ValueError, match="killed"):
        launch("mlflow", 0, FIRST, end=ValueError("killed"), uri=uri, tags={"a": "b"})
    said = launch("mlflow", 2, AGAIN, uri=uri)
    assert "mlflow: run " in said[-1]
    client = MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("jaxvision").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "study/a"
    assert run.data.params == {"seed": "0", "model.name": "vit", "model.sizes": "(1, 2)"}
    assert run.data.tags["a"] == "b"
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [one.step for one in history] == [1, 2, 3, 4]
    assert math.isnan(history[-1].value)
    assert [one.value for one in client.get_metric_history(run.info.run_id, "val/top1")] == [0.25, 0.5]


def test_wandb_offline_keeps_one_id(launch, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match="killed"):
        launch("wandb", 0, FIRST, end=ValueError("killed"), project="p", mode="offline")
    said = launch("wandb", 2, AGAIN, project="p", mode="offline")
    assert len(said) == 2
    assert all(line.startswith(f"wandb: offline; to upload it: wandb sync {tmp_path}/run/wandb/") for line in said)
    files = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb"))
    assert [file.name for file in files] == [f"run-{'ab' * 16}.wandb"] * 2
    for _ in range(100):  # another process writes it
        history = [step_and_values(file) for file in files]
        if len(history[1]) == 3:
            break
        time.sleep(0.1)
    assert history[0] == [(step, values) for step, values in FIRST]
    assert [step for step, _ in history[1]] == [3, 4, 4]
    assert math.isnan(float(history[1][1][1]["loss"]))


def step_and_values(file):
    """The lines in a file of W&B: records in blocks of 32 kB, as in LevelDB, of which a short run needs one."""
    from wandb.proto import wandb_internal_pb2 as records

    data, at, lines = file.read_bytes(), 7, []
    assert len(data) < 2**15
    while at < len(data):
        _, length, _ = struct.unpack_from("<IHB", data, at)
        record = records.Record.FromString(data[at + 7 : at + 7 + length])
        at += 7 + length
        if record.WhichOneof("record_type") == "history":
            values = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            lines.append((values["step"], {k: v for k, v in values.items() if k[0] != "_" and k != "step"}))
    return lines


def test_wandb_asks_for_a_login_before_training(launch, monkeypatch, tmp_path):
    wandb = pytest.importorskip("wandb")

    def nobody(**options):
        raise wandb.errors.UsageError("No API key configured. Use `wandb login` to log in.")

    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(wandb, "login", nobody)
    with pytest.raises(UserError, match=r"Use `wandb login` to log in. Or set loggers.wandb.mode to 'offline'"):
        launch("wandb", 0, [], mode="online")
    assert not (tmp_path / "run").exists()


def test_comet_offline_keeps_one_key_and_what_a_killed_launch_lost(launch, tmp_path):
    pytest.importorskip("comet_ml")
    folder = tmp_path / "run" / "comet"
    launch("comet", 0, FIRST, project="p", mode="offline")
    (first,) = folder.glob("*.zip")
    with zipfile.ZipFile(folder / "killed.zip", "w"):  # as a launch leaves it that is killed
        pass
    written = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": None, "top1": 0.5}, {"step": 3, "loss": 7.0}]
    (tmp_path / "run" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in written) + '{"step')
    launch("comet", 2, AGAIN, project="p", mode="offline")
    (second,) = set(folder.glob("*.zip")) - {first}
    for archive in (first, second):
        with zipfile.ZipFile(archive) as content:
            assert json.loads(content.read("experiment.json"))["offline_id"] == "ab" * 16
            messages = [json.loads(line) for line in content.read("messages.json").splitlines()]
    metrics = [m["payload"]["metric"] for m in messages if m["type"] == "metric_msg"]
    found = [(metric["metricName"], float(metric["metricValue"]), metric["step"]) for metric in metrics]
    mine = [one for one in found if not one[0].startswith("sys.")]
    assert mine[:4] == [("loss", 3.0, 1), ("top1", 0.5, 2), ("loss", 1.5, 3), mine[3]]
    assert math.isnan(mine[3][1])
    assert mine[4:] == [("val/top1", 0.5, 4)]


def test_comet_asks_for_a_key_before_training(launch, monkeypatch):
    comet = pytest.importorskip("comet_ml")
    monkeypatch.setattr(comet, "get_config", lambda name: None)
    with pytest.raises(UserError, match="the logger 'comet' has no API key: run `comet login`"):
        launch("comet", 0, [])
