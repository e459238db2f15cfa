"""Weights of the hub by name, from a small server that answers as the hub does, and without one."""

import functools
import hashlib
import http.server
import json
import subprocess
import sys
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision import models
from jaxvision.commands import convert
from jaxvision.errors import UserError
from jaxvision.models import weights
from jaxvision.models.weights import folder, hub

huggingface_hub = pytest.importorskip("huggingface_hub")
constants = pytest.importorskip("huggingface_hub.constants")
COMMIT = "a" * 40
VIT = dict(variant="mu/8", pool="token", posemb="learned", gelu="exact")


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers /OWNER/NAME/resolve/REVISION/FILE with the headers that the hub sends."""

    def __init__(self, root, asked, *args):
        self.root, self.asked = root, asked
        super().__init__(*args)

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        parts = self.path.partition("?")[0].strip("/").split("/")
        self.asked.append(parts[-1])
        api = parts[0] == "api"  # /api/models/OWNER/NAME/revision/REVISION, else /OWNER/NAME/resolve/REVISION/FILE
        repository = self.root / "/".join(parts[2:4] if api else parts[:2])
        revision = (parts[5] if len(parts) > 5 else "main") if api else parts[3]
        file = repository / parts[-1]
        wrong = {"RepoNotFound": not repository.is_dir(), "RevisionNotFound": revision not in ("main", COMMIT)}
        wrong["EntryNotFound"] = not api and not file.is_file()
        code = next((name for name, is_wrong in wrong.items() if is_wrong), None)
        content = b""
        if not code and api:
            files = [{"rfilename": one.name} for one in repository.iterdir()]
            content = json.dumps({"id": "/".join(parts[2:4]), "sha": COMMIT, "siblings": files}).encode()
        elif not code:
            content = file.read_bytes()
        self.send_response(404 if code else 200)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)


def point_to(monkeypatch, endpoint):
    """Does what HF_ENDPOINT does, which the library reads when it is imported."""
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


@pytest.fixture
def asked():
    """The last parts of the paths that the server was asked for."""
    return []


@pytest.fixture
def root(tmp_path, monkeypatch, asked):
    """The folder whose content a server offers as the hub, to a library with an empty cache."""
    root = tmp_path / "hub"
    (root / "timm/vit_mu").mkdir(parents=True)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Hub, root, asked))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    point_to(monkeypatch, f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield root
    server.shutdown()
    server.server_close()
    thread.join()


def offer(root, architecture="vit_mu_patch8_16"):
    """A ViT drawn at random in a repository as timm writes it; returns its variables."""
    model = models.build("vit", 4, **VIT)
    variables = jax.jit(lambda: model.init(jax.random.key(1), jnp.zeros((1, 16, 16, 3)), train=False))()
    weights.write(root / "timm/vit_mu/model.safetensors", weights.export_weights(variables, "timm", "vit"))
    cfg = {"tag": "tiny", "input_size": [3, 16, 16], "mean": [0.5] * 3, "std": [0.5] * 3, "crop_pct": 1.0}
    config = {"architecture": architecture, "num_classes": 4, "pretrained_cfg": cfg}
    (root / "timm/vit_mu/config.json").write_text(json.dumps(config))
    return variables


def test_weights_come_from_the_hub_once_and_then_from_the_cache(root, monkeypatch):
    offer(root)
    hosted = hub.fetch("hf:timm/vit_mu")
    assert hosted.source == "timm"
    assert hosted.revision == COMMIT
    assert hosted.architecture == "vit_mu_patch8_16.tiny"
    assert hosted.sha256 == hashlib.sha256((root / "timm/vit_mu/model.safetensors").read_bytes()).hexdigest()
    assert hosted.note == f"hf:timm/vit_mu: commit {COMMIT[:12]}, sha256 {hosted.sha256}"
    point_to(monkeypatch, "http://127.0.0.1:1")  # nobody answers there
    assert hub.fetch("hf:timm/vit_mu") == hosted
    assert hub.fetch(f"hf:timm/vit_mu@{COMMIT}").path == hosted.path
    with pytest.raises(UserError, match=r"^hf:timm/other is not in the local cache, and the hub cannot be reached"):
        hub.fetch("hf:timm/other")


def test_convert_reads_them(root, tmp_path):
    variables = offer(root)
    meta = convert.run_convert("hf:timm/vit_mu", tmp_path / "out", model="vit:mu/8")
    arrays, stored = folder.load(tmp_path / "out")
    np.testing.assert_array_equal(arrays["params/head/bias"], variables["params"]["head"]["bias"])
    assert stored["input"]["hub"] == {"name": "hf:timm/vit_mu", "revision": COMMIT}
    assert meta["architecture"] == "vit_mu_patch8_16.tiny"
    assert "size=16" not in str(meta["notes"])
    assert meta["preprocessing"]["size"] == 16


def test_a_run_starts_from_them_and_records_what_it_read(root, tmp_path):
    import jaxvision

    offer(root)
    rng = np.random.default_rng(0)
    config = dict(
        data=dict(name="shapes", split="train", batch_size=8),
        model=dict(name="vit", **VIT),
        task=dict(name="supervised"),
        optimizer=dict(name="sgd", learning_rate=0.1),
        train=dict(total="1 steps"),
        init=dict(weights="hf:timm/vit_mu", head="new"),
    )
    data = rng.integers(0, 256, (16, 16, 16, 3), np.uint8), np.arange(16) % 2
    jaxvision.train(config, tmp_path / "run", data=data, quiet=True)
    (launch,) = json.loads((tmp_path / "run/run.json").read_text())["launches"]
    assert any(line.startswith(f"init: hf:timm/vit_mu: commit {COMMIT[:12]}, sha256") for line in launch["init"])


def test_a_repository_of_our_own(root):
    variables = offer(root)
    arrays = weights.export_weights(variables, "jaxvision", "vit")
    folder.save(root / "me/mine", arrays, {"model": {"name": "vit", **VIT}, "classes": None})
    hosted = hub.fetch("hf:me/mine")
    assert hosted.source == "jaxvision"
    assert folder.load(hosted.path)[0].keys() == arrays.keys()


def test_weights_of_another_library_are_not_downloaded(root, asked):
    offer(root)
    (root / "timm/vit_mu/config.json").write_text(json.dumps({"model_type": "vit", "architectures": ["ViTModel"]}))
    with pytest.raises(UserError, match="holds no weights that can be read"):
        hub.fetch("hf:timm/vit_mu")
    assert "config.json" in asked
    assert "model.safetensors" not in asked


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf:vit_mu", "does not name weights of the hub: write hf:OWNER/NAME"),
        ("hf:timm/nothing", "the hub has no such repository, or it is private"),
        ("hf:timm/vit_mu@v2", "has no revision 'v2'"),
        ("hf:timm/vit_mu", "holds no weights that can be read: want config.json and model.safetensors"),
    ],
)
def test_mistakes_are_named(root, name, message):
    with pytest.raises(UserError, match=message):
        hub.fetch(name)


def test_the_library_is_named_if_it_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"needs the library huggingface_hub: pip install 'jaxvision\[hub\]'"):
        hub.fetch("hf:timm/vit_mu")


@pytest.mark.slow
def test_a_command_without_a_network_prints_one_line(tmp_path):
    command = [sys.executable, "-m", "jaxvision", "convert", "--from=hf:timm/resnet18.a1_in1k", str(tmp_path / "out")]
    environment = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "http://127.0.0.1:1", "PYTHONPATH": ":".join(sys.path)}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path)
    assert ended.returncode == 2
    assert "hf:timm/resnet18.a1_in1k is not in the local cache, and the hub cannot be reached" in ended.stderr
    assert len(ended.stderr.strip().splitlines()) <= 2  # and the place of the traceback
