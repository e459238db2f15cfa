"""`jaxvision data convert`: a TFDS set that was prepared as TFRecord, rewritten as ArrayRecord without TensorFlow.

The records are the same bytes in the same shards and the same order; only the files around them differ.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from tensorflow_datasets.core import dataset_info, file_adapters, naming
from tensorflow_datasets.core.proto import dataset_info_pb2

from jaxvision import path_names
from jaxvision.data import tfrecord
from jaxvision.data.staging import set_folder, staged, write_shard
from jaxvision.errors import UserError, shown
from jaxvision.progress import Progress
from jaxvision.reading import reading

_TFRECORD, _ARRAY_RECORD = file_adapters.FileFormat.TFRECORD, file_adapters.FileFormat.ARRAY_RECORD


def convert_set(source: str | Path, out: str | Path) -> Path:
    """Converts all splits, shard by shard; an interrupted call resumes at the shard where it stopped.

    Args:
      source: Folder of one version of the set, which holds dataset_info.json, features.json and *.tfrecord-*.
      out: Folder of prepared sets; the copy becomes `out/name[/config]/version`.

    Returns:
      The folder of the copy. `open_source(name, split, data_dir=out)` reads it.

    Raises:
      UserError: `source` is no such folder; a shard is missing, truncated, damaged or has another number of records
        than dataset_info.json says; or the copy exists already.
    """
    source, out = path_names.expanded(source, "the set to convert"), path_names.expanded(out, "the output folder")
    info = _read_info(source)
    target = set_folder(out, info.name, info.config_name, info.version)
    shards = _shards(info, source, _TFRECORD)
    missing = [path for path, _ in shards if not path.exists()]
    if missing:
        raise UserError(f"{len(missing)} of {len(shards)} shards are missing: {', '.join(map(str, missing[:3]))}, ...")
    for split in info.splits:
        split.filepath_template = naming.DEFAULT_FILENAME_TEMPLATE
    info.file_format = _ARRAY_RECORD.value
    del info.alternative_file_formats[:]
    progress = Progress(f"converting {info.name}", sum(count for _, count in shards))
    with progress, staged(target, {"made_by": "jaxvision data convert", "source": str(source.resolve())}) as folder:
        for (old, count), (new, _) in zip(shards, _shards(info, folder, _ARRAY_RECORD), strict=True):
            write_shard(new, _counted(old, count, progress))
        for file in source.iterdir():
            if file.is_file() and not file_adapters.is_example_file(file.name):
                shutil.copyfile(file, folder / file.name)  # features.json, the names of classes, ...
        dataset_info.write_dataset_info_proto(info, folder)
    return target


def _read_info(source: Path) -> dataset_info_pb2.DatasetInfo:
    """Reads and checks the dataset_info.json of a set that is prepared as TFRecord."""
    if not (source / "dataset_info.json").exists():
        files = [f for depth in ("*", "*/*", "*/*/*") for f in source.glob(f"{depth}/dataset_info.json")]
        hint = f". Choices below it: {', '.join(sorted(str(f.parent) for f in files)[:5])}" if files else ""
        raise UserError(f"no dataset_info.json in {source}; want the folder of one version of a TFDS set{hint}")
    if not (source / "features.json").exists():
        raise UserError(
            f"no features.json in {source}: it was prepared by a version of TFDS before 4.0; prepare it again"
        )
    with reading(source / "dataset_info.json"):
        info = dataset_info.read_proto_from_builder_dir(source)
    names = [info.name, info.version, *([info.config_name] if info.config_name else []), *(s.name for s in info.splits)]
    if bad := [name for name in names if not re.fullmatch(r"\w[\w.+-]*", name)]:
        raise UserError(
            f"{source}/dataset_info.json is damaged: {shown(bad[0])} is not the name of a set, version or split"
        )
    if info.file_format not in ("", _TFRECORD.value):
        raise UserError(f"{source} is prepared as {info.file_format}; only tfrecord is converted")
    return info


def _shards(
    info: dataset_info_pb2.DatasetInfo, folder: Path, file_format: file_adapters.FileFormat
) -> list[tuple[Path, int]]:
    """Returns the files of all splits, each with its number of records."""
    splits = dataset_info.get_split_dict_from_proto(info, folder, file_format)
    return [
        (Path(split.filename_template.sharded_filepath(shard_index=i, num_shards=split.num_shards)), count)
        for split in splits.values()
        for i, count in enumerate(split.shard_lengths)
    ]


def _counted(path: Path, count: int, progress: Progress) -> Iterator[bytes]:
    records = 0
    for record in tfrecord.read_records(path):
        records += 1
        progress.advance()
        yield record
    if records != count:
        raise UserError(f"{path} has {records:,} records, but dataset_info.json says {count:,}")
