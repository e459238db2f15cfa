"""Files in a bucket are as those of a folder, for whoever looks at them through `storage`; other places are refused."""

import contextlib
import importlib.util
import itertools
import json
import os
import pathlib

import numpy as np
import pytest

from jaxvision import line_files, path_names, storage
from jaxvision.errors import UserError
from jaxvision.evals.store import Features, Store
from jaxvision.models.weights import files, folder
from jaxvision.train.metrics import Records, read

if importlib.util.find_spec("gcsfs") is None:
    pytest.skip("gcsfs is not installed: pip install 'jaxvision[gcs]'", allow_module_level=True)


@pytest.fixture(params=["local", "bucket"])
def place(request, tmp_path, bucket):
    """A folder of each kind, empty."""
    if request.param == "local":
        return tmp_path / "new" / "run"
    return storage.path(f"gs://bucket/{tmp_path.name}/run")


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("s3://b/x", "cannot write to S3: mount the bucket"),
        ("hdfs://host/x", "hdfs: is not supported"),
        ("http://host/x", "http: is not supported"),
        ("az://b/x", "az: is not supported"),
        ("webhdfs://host/x", "webhdfs: is not supported"),
        ("s3:b", "cannot write to S3"),
        ("GS://bucket/x", "did you mean gs://"),
        ("gcs://bucket/x", "did you mean gs://"),
        ("gs:/bucket/x", "with two slashes"),
        ("gs:bucket/x", "with two slashes"),
        ("gs://", "the name of a bucket"),
        ("gs:///x", "the name of a bucket"),
        ("gs://bucket", "and one in it"),
        ("gs://bucket/", "and one in it"),
        ("gs://My_Bucket/x", "the name of a bucket"),
        ("gs://bucket/run#1", "must not hold '#'"),
        ("gs://bucket/run?x", "must not hold '?'"),
        ("gs://bucket/lr[1]", r"must not hold '\['"),
        ("gs://bucket/a/../b", "as a part"),
        ("file:///tmp/x", "as in '/tmp/x'"),
        ("", "want a folder"),
        ("/gs/bucket/x", "by another name"),
        ("/s3/x", "by another name"),
    ],
)
def test_other_places_are_refused(where, message):
    with pytest.raises(UserError, match=f"^--workdir is .*{message}"):
        storage.path(where, "--workdir")


@pytest.mark.parametrize("where", ["runs/a", "/tmp/x", "runs/12:30:00", "a:b", "./gs/x", "C:\\runs", "lr=0.1,wd=1e-4"])
def test_local_folders_are_what_they_were(where):
    assert storage.path(where) == pathlib.Path(where)
    assert type(storage.path(where)) is type(pathlib.Path(where))


def test_a_library_that_is_missing_is_told_before_anything_is_asked(monkeypatch):
    monkeypatch.setattr(storage, "_installed", lambda module: module != "gcsfs")
    with pytest.raises(
        UserError, match=r"^--workdir is 'gs://bucket/x', which needs gcsfs: pip install 'jaxvision\[gcs\]'$"
    ):
        storage.path("gs://bucket/x", "--workdir")


def test_a_bucket_that_is_not_there_is_told_at_once(bucket):
    with pytest.raises(UserError, match="^cannot reach gs://absent: there is no such bucket. Is the name right"):
        storage.path("gs://absent/x", "--workdir")


def test_files_are_written_whole_or_not_at_all(place):
    storage.make_folder(place)
    storage.write(place / "a.json", "one")
    storage.write(place / "a.json", b"two")
    with contextlib.suppress(ZeroDivisionError), storage.file(place / "a.json") as made:
        made.write_text("three")
        _ = 1 / 0
    storage.append(place / "log.txt", "x\n")
    storage.append(place / "log.txt", "y\n")
    assert (place / "a.json").read_text() == "two"
    assert (place / "log.txt").read_text() == "x\ny\n"
    assert sorted(p.name for p in place.iterdir()) == ["a.json", "log.txt"]


def test_a_large_file_comes_back_as_it_was(place):
    content = np.random.default_rng(0).bytes(12_000_000)  # gcsfs uploads it in parts
    storage.make_folder(place)
    storage.write(place / "large.bin", content)
    assert (place / "large.bin").read_bytes() == content


def test_a_folder_is_filled_by_name(place):
    with storage.folder(place / "pages") as here:
        (here / "a.png").write_bytes(b"a")
        (here / "inner").mkdir()
        (here / "inner" / "b.png").write_bytes(b"b")
    assert (place / "pages" / "a.png").read_bytes() == b"a"
    assert (place / "pages" / "inner" / "b.png").read_bytes() == b"b"


def test_lines_are_stored_when_they_are_written(place, monkeypatch):
    storage.make_folder(place)
    monkeypatch.setattr(line_files, "PART_BYTES", 100)
    path, ticks = place / "metrics.jsonl", itertools.count()
    monkeypatch.setattr(line_files.time, "monotonic", lambda: next(ticks) * 0.4)
    lines = line_files.Lines(path, ["kept"])
    for i in range(30):
        lines.append(f"line {i}")
        assert line_files.read_lines(path) == ["kept", *(f"line {j}" for j in range(i + 1))]
    again = line_files.Lines(path, ["kept", "line 0"])  # the first was killed
    assert line_files.read_lines(path) == ["kept", "line 0"]
    again.append("other")
    again.close()
    assert path.read_text() == "kept\nline 0\nother\n"
    assert [p.name for p in place.iterdir()] == ["metrics.jsonl"]


def test_a_kill_while_parts_are_joined_doubles_no_line(bucket, tmp_path):
    path = storage.path(f"gs://bucket/{tmp_path.name}/metrics.jsonl")
    lines = line_files.Lines(path)
    lines.append("a")
    lines.append("b")
    storage.write(path, "a\nb\n")  # as `close` does first
    assert line_files.read_lines(path) == ["a", "b"]


def test_no_object_is_written_twice_within_a_second(bucket, tmp_path):
    """Cloud Storage slows down who does (https://cloud.google.com/storage/quotas#objects)."""
    workdir = storage.path(f"gs://bucket/{tmp_path.name}")
    records = Records(workdir, 0)
    for step in range(1, 9):
        records.write(step, {"loss": 1.0})
        if step % 4 == 0:
            records.write(step, {"val/top1": 0.5})
            records.flush()
    times = {}
    for name, at in bucket.written:
        if name.startswith(tmp_path.name):
            assert at - times.get(name, -np.inf) >= 1, name
            times[name] = at
    assert len([line["step"] for line in read(workdir / "metrics.jsonl")]) == 10


def test_events_are_there_before_a_checkpoint_and_no_scalar_is_lost(place):
    storage.make_folder(place)
    for start in (0, 4):
        records = Records(place, start)
        for step in range(start + 1, start + 5):
            records.write(step, {"loss": step / 2})
            if step % 2 == 0:
                records.flush()
        if start:
            records.close()  # the first is killed after its last checkpoint
    assert [line["loss"] for line in read(place / "metrics.jsonl")] == [step / 2 for step in range(1, 9)]
    if path_names.is_remote(place):
        assert scalars(place / "tensorboard") == {step: step / 2 for step in range(1, 9)}


def scalars(board):
    """Values by step from files of events: length, its checksum, a message, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    values = {}
    for name in sorted(path.name for path in board.iterdir()):
        data, at = (board / name).read_bytes(), 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 8], "little")
            event = Event.FromString(data[at + 12 : at + 12 + size])
            at += size + 16
            for value in event.summary.value:
                values[event.step] = value.simple_value
    return values


def test_weights_and_features_lie_in_a_bucket(bucket, tmp_path):
    where = f"gs://bucket/{tmp_path.name}"
    arrays = {"params/head/bias": np.arange(3, dtype=np.float32)}
    folder.save(f"{where}/vit", arrays, {"model": {"name": "vit"}})
    loaded, meta = folder.load(f"{where}/vit")
    np.testing.assert_array_equal(loaded["params/head/bias"], arrays["params/head/bias"])
    assert meta == {"model": {"name": "vit"}}
    with pytest.raises(UserError, match="exists already"):
        folder.save(f"{where}/vit", arrays, {})
    with storage.file(storage.path(f"{where}/w.npz")) as made:
        np.savez(made, **{"a": arrays["params/head/bias"]})
    np.testing.assert_array_equal(files.read(f"{where}/w.npz")["a"], [0, 1, 2])
    kept = Features(np.ones((2, 3), np.float32), np.array([0, 1], np.int32), np.array([0, 1]))
    Store({}, f"{where}/features").keep({}, {"split": "x"}, "features", kept)
    again = Store({}, f"{where}/features").find({}, {"split": "x"}, "features")
    np.testing.assert_array_equal(again.values, kept.values)
    (name,) = bucket.names(f"{tmp_path.name}/features/")
    assert name.endswith(".npz")


def test_files_that_need_a_disk_are_not_put_in_a_bucket():
    with pytest.raises(UserError, match="--out is 'gs://bucket/x', but must be on a file system, since it is locked"):
        storage.local("gs://bucket/x", "--out", "it is locked")
    assert storage.local("~/x") == pathlib.Path(os.path.expanduser("~/x"))


def test_the_stand_in_keeps_conditions_as_cloud_storage_does(bucket):
    first = bucket.put("c/x", b"1", {"ifGenerationMatch": "0"})
    assert bucket.put("c/x", b"2", {"ifGenerationMatch": "0"}) is None
    assert bucket.put("c/x", b"2", {"ifGenerationMatch": first["generation"]}) is not None
    assert json.loads(json.dumps(bucket.text("c/x"))) == "2"


def test_output_folders(tmp_path):
    storage.output_folder(tmp_path / "a" / "b", "--out")
    assert (tmp_path / "a" / "b").is_dir()
    storage.output_folder(tmp_path / "a", "--out")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="--out=.*file is a file, but should be a folder"):
        storage.output_folder(tmp_path / "file", "--out")
    with pytest.raises(UserError, match="cannot make the folder --pages=.*below: Not a directory"):
        storage.output_folder(tmp_path / "file" / "below", "--pages")
