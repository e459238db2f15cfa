"""What travels to another machine: what git would say belongs to the source, and no more."""

import os
import subprocess
import tarfile

import pytest

from jaxvision.errors import UserError
from jaxvision.launch.pack import files_of, pack


def git(folder, *words):
    who = ["-c", "user.name=n", "-c", "user.email=e@e", "-c", "protocol.file.allow=always"]
    subprocess.run(["git", "-C", folder, *who, *words], check=True, capture_output=True)


def fill(folder, *names, size=10):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))


@pytest.fixture
def checkout(tmp_path):
    """A checkout with each kind of file."""
    root = tmp_path / "checkout"
    fill(root, "a.py", "gone.py", "with blank.py", "n\u00e4me.py", "package/b.py")
    (root / ".gitignore").write_text("runs/\n*.npz\n!kept.npz\n")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    fill(root, "runs/vit/checkpoints/1/state", "big.npz", "kept.npz", "new.py", "package/new.npz")
    (root / "gone.py").unlink()
    (root / "link.py").symlink_to("a.py")
    (root / "dangling").symlink_to("nowhere")
    git(root, "add", "link.py")
    return root


WANTED = {
    ".gitignore",
    "a.py",
    "with blank.py",
    "n\u00e4me.py",
    "package/b.py",
    "kept.npz",
    "new.py",
    "link.py",
    "dangling",
}


def test_a_checkout_gives_what_git_tracks_or_would_add(checkout):
    assert set(files_of(checkout)) == WANTED
    assert files_of(checkout / "package") == ["b.py"]


def test_submodules_and_checkouts_inside_are_read_by_their_own_rules(checkout, tmp_path):
    other = tmp_path / "other"
    fill(other, "lib.py")
    (other / ".gitignore").write_text("*.log\n")
    git(other, "init", "--quiet")
    git(other, "add", ".")
    git(other, "commit", "--quiet", "-m", "x")
    git(checkout, "submodule", "--quiet", "add", str(other), "third/party")
    fill(checkout, "third/party/out.log")
    git(tmp_path, "clone", "--quiet", str(other), str(checkout / "loose"))
    inside = {"third/party/lib.py", "third/party/.gitignore", "loose/lib.py", "loose/.gitignore", ".gitmodules"}
    assert set(files_of(checkout)) == WANTED | inside


def test_the_archive_holds_them_and_links_stay_links(checkout, tmp_path):
    words = pack(checkout, tmp_path / "out" / "pack.tgz")
    assert f"packed {len(WANTED)} files" in words
    out = tmp_path / "unpacked"
    out.mkdir()
    subprocess.run(["tar", "-xzf", tmp_path / "out" / "pack.tgz", "-C", out], check=True)
    assert {f.relative_to(out).as_posix() for f in out.rglob("*") if f.is_symlink() or f.is_file()} == WANTED
    assert os.readlink(out / "link.py") == "a.py"
    assert (out / "with blank.py").read_bytes() == (checkout / "with blank.py").read_bytes()
    assert os.listdir(tmp_path / "out") == ["pack.tgz"]


def test_a_folder_without_git_leaves_out_environments_caches_and_runs(tmp_path):
    fill(tmp_path, "a.py", "p/b.py", ".hidden", ".venv/x.py", "p/__pycache__/b.pyc", "runs/x", "x.egg-info/PKG-INFO")
    fill(tmp_path, "vit/config.json", "vit/run.json", "vit/checkpoints/1/state")  # a workdir by another name
    assert files_of(tmp_path) == [".hidden", "a.py", "p/b.py"]


def test_an_ignored_folder_of_a_checkout_is_a_folder(checkout):
    fill(checkout, "runs/source/a.py", "runs/source/w.npz")
    assert files_of(checkout / "runs" / "source") == ["a.py", "w.npz"]


def test_a_checkout_that_git_cannot_read_is_not_packed_whole(checkout, monkeypatch):
    (checkout / ".git" / "HEAD").write_text("spoilt")
    with pytest.raises(UserError, match="git cannot read the checkout"):
        files_of(checkout)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UserError, match="is a git checkout, but git is not installed"):
        files_of(checkout)


def test_too_large_a_source_is_refused_and_the_largest_files_are_named(tmp_path):
    fill(tmp_path, "small.py")
    fill(tmp_path, "data/large.bin", size=3_000_000)
    with pytest.raises(UserError, match=r"(?s)2 files .* 3\.0 MB, but at most 2 MB.*\n  3\.0 MB  data/large\.bin"):
        pack(tmp_path, tmp_path / "pack.tgz", largest_mb=2)
    assert not (tmp_path / "pack.tgz").exists()
    assert "2 files, 3.0 MB" in pack(tmp_path, tmp_path / "pack.tgz")
    with tarfile.open(tmp_path / "pack.tgz") as tar:
        assert sorted(tar.getnames()) == ["data/large.bin", "small.py"]


def test_no_folder_and_no_files(tmp_path):
    with pytest.raises(UserError, match="is not a folder"):
        files_of(tmp_path / "absent")
    with pytest.raises(UserError, match="no files to copy"):
        pack(tmp_path, tmp_path / "pack.tgz")
