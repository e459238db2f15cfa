"""The wheel and the sdist: what they hold, and that an installed package finds its configs from any folder."""

import configparser
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import jaxvision

ROOT = Path(jaxvision.__file__).parents[1]
BUILD = "from setuptools import build_meta as b; import sys; getattr(b, 'build_' + sys.argv[1])(sys.argv[2])"


def test_the_version_is_that_of_setup_cfg():
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    assert jaxvision.__version__ == parser["metadata"]["version"]
    assert "__version__" in dir(jaxvision)


def test_without_a_checkout_the_version_is_that_of_the_metadata(monkeypatch, tmp_path):
    from jaxvision import version

    monkeypatch.setattr(version, "__file__", str(tmp_path / "jaxvision" / "version.py"))
    monkeypatch.setattr(version.importlib.metadata, "version", lambda name: "1.2.3")
    assert version.version() == "1.2.3"


def test_the_package_says_that_it_has_types():
    assert (Path(jaxvision.__file__).parent / "py.typed").is_file()


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the source, since setuptools writes beside it."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("source") / "jaxvision"
    ignore = shutil.ignore_patterns(".git", "__pycache__", ".venv", "runs", "build", "*.egg-info", ".*_cache")
    shutil.copytree(ROOT, folder, ignore=ignore)
    return folder


def build(source, what, out):
    subprocess.run([sys.executable, "-c", BUILD, what, str(out)], cwd=source, check=True, capture_output=True)
    (file,) = out.iterdir()
    return file


@pytest.mark.slow
def test_the_wheel_holds_the_package_with_its_configs_and_an_installation_finds_them(source, tmp_path):
    wheel = build(source, "wheel", tmp_path / "wheel")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        archive.extractall(tmp_path / "site")
        (info,) = {name.split("/")[0] for name in names if ".dist-info/" in name}
        metadata = archive.read(f"{info}/METADATA").decode()
    ours = {file.relative_to(ROOT).as_posix() for file in (ROOT / "jaxvision").rglob("*.py")}
    configs = {f"jaxvision/shipped/{file.relative_to(ROOT).as_posix()}" for file in (ROOT / "configs").rglob("*.py")}
    studies = {
        f"jaxvision/shipped/{file.relative_to(ROOT).as_posix()}"
        for file in (ROOT / "experiments").rglob("*")
        if file.suffix in (".py", ".csv") and "results" not in file.parts
    }
    assert ours | configs | studies | {"jaxvision/py.typed"} <= names
    assert f"{info}/licenses/LICENSE" in names
    assert {name.split("/")[0] for name in names} == {"jaxvision", info}
    assert not [name for name in names if "__pycache__" in name or "/results/" in name]
    for line in (
        "License: Apache-2.0",
        "Requires-Python: >=3.11",
        "Description-Content-Type: text/markdown",
    ):
        assert line in metadata.splitlines()

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    code = (
        "import jaxvision\n"
        "from jaxvision import config as configs, own_modules\n"
        "from jaxvision.commands import study\n"
        "print(jaxvision.__file__, jaxvision.__version__)\n"
        "print(configs.load('configs/own_parts/gan.py').task.name, own_modules.find('experiments.own_parts.gan'))\n"
        "print(study.load_study('random_search').__file__)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=elsewhere, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.count(str(tmp_path / "site")) == 3, done.stdout
    assert done.stdout.splitlines()[0].endswith(f" {jaxvision.__version__}")


@pytest.mark.slow
def test_the_sdist_holds_what_the_tests_need_and_makes_the_same_wheel(source, tmp_path):
    sdist = build(source, "sdist", tmp_path / "sdist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
        names = {name.partition("/")[2] for name in archive.getnames()}
    folders = ("jaxvision", "tests", "docs", "configs", "experiments", "benchmarks", ".ci")
    files = {
        file.relative_to(source).as_posix()
        for folder in folders
        for file in (source / folder).rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    assert files | {"LICENSE", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "setup.cfg", "pyproject.toml"} <= names
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    wheel = build(unpacked, "wheel", tmp_path / "wheel")
    assert "jaxvision/shipped/configs/quickstart.py" in zipfile.ZipFile(wheel).namelist()
