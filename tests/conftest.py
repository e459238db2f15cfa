"""Eight simulated CPU devices for every test, and programs that are quick to compile; set before jax is imported.

Most of the time of the suite is compilation, much of it LLVM's optimisation of code that runs once. What a program
computes does not depend on it, beyond the last bits; a test that needs these compiles with `OPTIMISED`. Compiled
programs are shared by all modules and processes of a session, through a folder that is deleted at its end.
"""

import atexit
import os
import shutil
import tempfile

from compiling import xla_knows

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
os.environ.setdefault("JAXVISION_PAGE", "0")  # drawing the page of a run takes longer than many a test
if "XLA_FLAGS" not in os.environ:  # processes that tests start inherit it
    os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
    if xla_knows("xla_cpu_use_fusion_emitters"):  # which take longer to compile than what they replaced
        os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # the workers of xdist inherit it
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="jax-programs-")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # small programs are many: half of the time
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

import ctypes
import gc
import importlib.util
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxvision import own_modules, scripts
from jaxvision.parallel.mesh import make_mesh

try:
    _return_memory = ctypes.CDLL(None).malloc_trim  # of glibc
except (AttributeError, OSError, TypeError):
    _return_memory = None


def pytest_collection_finish(session):
    """What is there before the first test stays: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()


def _let_programs_go():
    jax.clear_caches()
    gc.collect()
    if _return_memory is not None:
        _return_memory(0)  # what was freed goes back to the system, also where it lies between what is used


@pytest.fixture(scope="module", autouse=True)
def _programs_are_let_go():
    """Without this the programs of all tests stay in memory, some gigabytes of them."""
    yield
    _let_programs_go()


@pytest.fixture
def shares_no_program():
    """For a large test whose programs no other of its module uses: they are let go at once."""
    yield
    _let_programs_go()


@pytest.fixture(scope="session")
def mesh():
    """`mesh(devices=8, **axes)`: a mesh over the first of the simulated devices."""

    def make(devices=8, **axes):
        if jax.device_count() < devices:
            pytest.skip(f"needs {devices} devices, has {jax.device_count()}")
        return make_mesh(devices=jax.devices()[:devices], **axes)

    return make


@pytest.fixture(scope="session")
def random_variables():
    """`random_variables(init, *inputs)`: variables in general position, shaped as `init(key, *inputs)` has them.

    Where a model starts at zero or one (its head, last scales, biases), much of it has no effect on
    the result. They are drawn without running the model's initialisers, whose compilation is slow.
    """

    def draw(init, *inputs):
        rng = np.random.default_rng(0)

        def leaf(path, x):
            path = jax.tree_util.keystr(path)
            if path.endswith(("['scale']", "['var']")):
                return rng.uniform(0.5, 1.5, x.shape).astype(x.dtype)
            return rng.normal(0, 0.1, x.shape).astype(x.dtype)

        return jax.tree.map_with_path(leaf, jax.eval_shape(init, jax.random.key(0), *inputs))

    return draw


@pytest.fixture(scope="session")
def shared():
    """`shared("mnist/...")`: a file of real data that is not part of the project; the test is skipped without it."""
    root = Path(os.environ.get("JAXVISION_SHARED", Path(__file__).parents[2] / "shared"))

    def find(name: str) -> Path:
        for path in (root / "data" / name, root / "reference" / name):
            if path.exists():
                return path
        pytest.skip(f"{name} is not here: it lies in the folder JAXVISION_SHARED, or shared/ beside the repository")

    return find


@pytest.fixture(scope="session")
def bucket():
    """A bucket `gs://bucket` on this machine, that all libraries find; see fake_bucket.py."""
    if importlib.util.find_spec("gcsfs") is None:
        pytest.skip("gcsfs is not installed: pip install 'jaxvision[gcs]'")
    file = Path(__file__).parent / "fake_bucket.py"
    spec = importlib.util.spec_from_file_location("fake_bucket", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    served, patch = module.FakeBucket(), pytest.MonkeyPatch()
    for key, value in served.variables.items():
        patch.setenv(key, value)
    yield served
    patch.undo()
    served.close()


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    """A folder of a user with modules of their own, which is the working directory; they are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("folders", "_added", "_closed"):
        monkeypatch.setattr(scripts, name, [])
    for name in ("_announced", "_imported"):
        monkeypatch.setattr(own_modules, name, set())
    monkeypatch.setattr(own_modules, "_trained_from", {})
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if tmp_path in Path(getattr(sys.modules[name], "__file__", None) or "/").parents:
            del sys.modules[name]
