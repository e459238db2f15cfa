"""A count of page faults, which do not depend on how busy the machine is. The settings last, so processes are new."""

import os
import subprocess
import sys

import pytest

from jaxvision import memory

pytestmark = pytest.mark.skipif(not memory._glibc(), reason="only glibc has these settings")

PROGRAM = """
import resource, sys
from jaxvision import memory

kept = memory.keep_freed() if sys.argv[1] == "keep" else False
import jax, jax.numpy as jnp

x = jnp.arange(4.0 * 2**20).reshape(2048, -1) / 2**22
step = jax.jit(lambda x: jnp.sort(jnp.cos(x), axis=1)[::-1] + x.sum())  # a buffer of 16 MB and a result
jax.block_until_ready(step(x))
jax.block_until_ready(step(x))
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    y = jax.block_until_ready(step(x))
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, float(y.sum()).hex())
"""


def run(word, **variables):
    env = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    env |= {"JAX_PLATFORMS": "cpu", **variables}
    words = [sys.executable, "-c", PROGRAM, word]
    kept, faults, total = subprocess.run(words, env=env, check=True, capture_output=True, text=True).stdout.split()
    return kept == "True", int(faults), total


def test_steps_do_not_fault_their_buffers_in_again_and_compute_the_same():
    kept, faults, total = run("keep")
    plain, more_faults, the_same = run("leave")
    assert (kept, plain) == (True, False)
    assert faults < more_faults / 2
    assert total == the_same


@pytest.mark.parametrize(
    "variables",
    [dict(GLIBC_TUNABLES="glibc.malloc.arena_max=3"), dict(MALLOC_ARENA_MAX="3"), dict(JAX_PLATFORMS="cuda,cpu")],
    ids=str,
)
def test_settings_of_the_user_and_accelerators_are_left_alone(variables):
    check = "from jaxvision import memory; assert not memory.keep_freed()"
    subprocess.run([sys.executable, "-c", check], env={**os.environ, **variables}, check=True)
