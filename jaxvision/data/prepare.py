"""`jaxvision data prepare`: downloads a TFDS set and writes it as ArrayRecord, where TFDS can without TensorFlow."""

import contextlib
import re
from pathlib import Path

import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import download_manager, extractor, util

from jaxvision import path_names
from jaxvision.errors import UserError, nearest

_FAILURES = (  # errors that are not faults of TFDS
    ImportError,
    AssertionError,  # the version does not exist, or files must be downloaded by hand
    ValueError,
    OSError,
    util.DownloadError,
    download_manager.NonMatchingChecksumError,
    extractor.ExtractError,
)
_TENSORFLOW = (
    "preparing {name} needs TensorFlow, which training does not. Install it here or in another environment:\n"
    "  pip install tensorflow-cpu tensorflow-datasets importlib_resources array_record\n"
    '  python -c "import tensorflow_datasets as tfds; tfds.builder({arguments}).download_and_prepare()"\n'
    "or, if you have it as TFRecord already: jaxvision data convert DIR OUT"
)


def prepare_set(name: str, data_dir: str | Path | None = None) -> Path:
    """Downloads and prepares a set of the TFDS catalog; does nothing if it is prepared already.

    Args:
      name: Name of the set in the catalog.
      data_dir: Folder of prepared sets; `~/tensorflow_datasets` by default.

    Returns:
      The folder of the set.

    Raises:
      UserError: There is no such set; it needs TensorFlow, another library, or files that must be downloaded by hand;
        the network fails; or it exists in another format. The message says what to do.
    """
    where = {} if data_dir is None else {"data_dir": str(path_names.expanded(data_dir, "data_dir"))}
    try:
        with contextlib.redirect_stdout(None):  # TFDS prints sizes that it does not know, and hints on TensorFlow
            builder = tfds.builder(name, file_format="array_record", **where)
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except tfds.core.DatasetNotFoundError:
        catalog = tfds.list_builders(with_community_datasets=False)
        hint = nearest(name, catalog) or f": see https://www.tensorflow.org/datasets/catalog ({len(catalog)} sets)"
        raise UserError(f"TFDS has no data set {name!r}{hint}") from None
    except _FAILURES as error:
        raise _reason(name, where, error) from error
    return Path(builder.data_path)


def _reason(name: str, where: dict[str, str], error: Exception) -> UserError:
    """Explains a failure of TFDS to the user. The errors are wrapped so often that only their text tells them apart."""
    text = str(error).strip()
    missing = re.search(r"No module named '(\w+)", text)
    if missing and missing[1] == "tensorflow":
        keywords = {"file_format": "array_record", **where}
        arguments = ", ".join([repr(name), *(f"{key}={value!r}" for key, value in keywords.items())])
        return UserError(_TENSORFLOW.format(name=name, arguments=arguments))
    if missing:
        return UserError(f"preparing {name} needs the library {missing[1]}: pip install {missing[1]}")
    if "File format is already set" in text:
        return UserError(f"{name} exists in another format: convert it with jaxvision data convert DIR OUT")
    return UserError(f"cannot prepare {name}: {text}")
