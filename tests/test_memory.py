"""A count of page faults, which do not depend on how busy the machine is. The settings last, so processes are new."""

import os
import subprocess
import sys

import pytest

from jaxvision import memory

pytestmark = pytest.mark.skipif(not memory._glibc(), reason="only glibc has these settings")

PROGRAM = """
import resource, sys, threading
from jaxvision import memory

kept = memory.keep_freed() if sys.argv[1] == "keep" else False
import numpy as np

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def steps():  # in a thread, as XLA's are
    global before, total
    total = np.ones(4 * 2**20).sum()
    before = faults()
    for _ in range(10):
        total += np.ones(4 * 2**20).sum()  # 32 MB

thread = threading.Thread(target=steps)
thread.start()
thread.join()
print(kept, faults() - before, float(total))
"""


def run(word, **variables):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    env |= {"JAX_PLATFORMS": "cpu", **variables}
    words = [sys.executable, "-c", PROGRAM, word]
    kept, faults, total = subprocess.run(words, env=env, check=True, capture_output=True, text=True).stdout.split()
    return kept == "True", int(faults), total


def test_buffers_are_not_mapped_again_and_sums_are_the_same():
    kept, faults, total = run("keep")
    plain, more_faults, the_same = run("leave")
    assert (kept, plain) == (True, False)
    assert 10 * faults < more_faults
    assert total == the_same


@pytest.mark.parametrize(
    "variables",
    [dict(GLIBC_TUNABLES="glibc.malloc.arena_max=3"), dict(MALLOC_ARENA_MAX="3"), dict(JAX_PLATFORMS="cuda,cpu")],
    ids=str,
)
def test_settings_of_the_user_and_accelerators_are_left_alone(variables):
    check = "from jaxvision import memory; assert not memory.keep_freed()"
    subprocess.run([sys.executable, "-c", check], env={**os.environ, **variables}, check=True)
