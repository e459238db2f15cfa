"""Compiled programs are kept on disk; what is wrong with the folder never stops a command."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from jaxvision import programs


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """No cache is set up, and the user's caches are in a new folder."""
    before = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    compilation_cache.reset_cache()
    yield tmp_path / "jaxvision" / "programs"
    jax.config.update("jax_compilation_cache_dir", before)
    jax.config.update("jax_enable_compilation_cache", True)
    compilation_cache.reset_cache()


def run_new_program() -> np.ndarray:
    jax.clear_caches()
    compilation_cache.reset_cache()
    return np.asarray(jax.jit(lambda x: jnp.sin(x) * 3 + x)(jnp.arange(5.0)))


def test_programs_are_kept_and_used_again(fresh):
    folder = programs.keep()
    assert folder.parent == fresh
    assert folder.stat().st_mode & 0o777 == 0o700
    first = run_new_program()
    kept = {file.name: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert any(name.startswith("jit") for name in kept)
    np.testing.assert_array_equal(run_new_program(), first)
    assert {file.name: file.stat().st_mtime_ns for file in folder.iterdir()} == kept


def test_a_damaged_program_is_compiled_again(fresh):
    folder = programs.keep()
    first = run_new_program()
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:-20])
    with pytest.warns(UserWarning, match="Error reading persistent compilation cache entry"):
        np.testing.assert_array_equal(run_new_program(), first)


def test_a_folder_that_cannot_be_made_is_not_used(fresh):
    fresh.parent.parent.joinpath("jaxvision").write_text("a file in the place of the folder")
    assert programs.keep() is None
    assert jax.config.jax_compilation_cache_dir is None
    assert run_new_program().shape == (5,)


def test_jax_has_the_last_word(fresh, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    assert programs.keep() == tmp_path / "mine"
    jax.config.update("jax_enable_compilation_cache", False)
    assert programs.keep() is None
    assert not fresh.exists()


def test_the_default_folder(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")  # such values are to be ignored, says the standard
    monkeypatch.setenv("HOME", "/home/me")
    assert programs.default_folder() == Path("/home/me/.cache/jaxvision/programs")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert programs.default_folder() == Path("/caches/jaxvision/programs")


def test_programs_unused_for_longest_are_deleted(tmp_path):
    for i, name in enumerate(("old/a", "new/b", "old/c")):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(bytes(100))
        os.utime(file, (i, i))
    os.utime(tmp_path / "old/a", (9, 0))  # made first, and used last
    programs.prune(tmp_path, 300)
    assert len(list(tmp_path.glob("*/*"))) == 3
    programs.prune(tmp_path, 200)
    assert sorted(file.name for file in tmp_path.glob("*/*")) == ["a", "c"]


def test_a_command_sets_it_up(tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("JAX_COMPILATION")}
    code = "from jaxvision.cli import shared; shared.start([]); import jax; print(jax.config.jax_compilation_cache_dir)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=environment | {"XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(found.stdout.strip()).parent == tmp_path / "jaxvision" / "programs"
