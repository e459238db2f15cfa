"""The format of a file of weights, by its content: a suffix is only a name, and downloads go wrong."""

import re
import shlex
import zipfile

from jaxvision import storage
from jaxvision.errors import UserError, shown
from jaxvision.reading import is_file, is_folder, reading
from jaxvision.storage import Path

READ = "safetensors (or the .index.json of several), .npz, Keras .h5, Flax .msgpack"
HEAD = 1024  # bytes that are read to find the format
LEGACY_TORCH = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the first number in a file of torch.save, before it wrote zips
MAGIC = (  # beginnings of files that hold no weights we can read -> the format, and what to do
    (b"version https://git-lfs.github.com", "a pointer of git LFS, not the file itself: fetch it with `git lfs pull`"),
    (b"/annex/objects/", "a pointer of git-annex, not the file itself: fetch it with `git annex get`"),
    (b"\x1f\x8b", "compressed with gzip: unpack it first"),
    (b"BZh", "compressed with bzip2: unpack it first"),
    (b"\xfd7zXZ\x00", "compressed with xz: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it first"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (b"Rar!", "a RAR archive: unpack it first"),
    (b"\x93NUMPY", "a single array without a name: np.savez(FILE, NAME=array) keeps arrays with theirs"),
    (b"GGUF", "a GGUF file of quantised weights: take the weights they were made from"),
    (
        b"\x03\x00\x00\x00\x01\x00\x00\x00",
        "a file of Lua Torch 7, which torch no longer reads: see the package torchfile",
    ),
    (
        b"\x04\x00\x00\x00\x01\x00\x00\x00",
        "a file of Lua Torch 7, which torch no longer reads: see the package torchfile",
    ),
)
# Dictionaries in dictionaries become one; their keys are joined with dots.
_FLAT = (
    "flat = lambda d, p='': {k: v for n, x in d.items() "
    "for k, v in (flat(x, p + str(n) + '.') if isinstance(x, dict) else {p + str(n): x}).items()}; "
)
_TORCH = "import argparse, sys, torch; from safetensors.torch import save_file; " + _FLAT
_SAVE = (
    "; save_file({k: v.clone().contiguous() for k, v in flat(state).items() "
    "if torch.is_tensor(v) and not k.startswith('optim')}, sys.argv[2])"
)
COMMANDS = {  # kind of pickle -> suffix of a file that can be read, and the program that converts it
    "torch": (
        ".safetensors",
        _TORCH + "torch.serialization.add_safe_globals([argparse.Namespace]); "
        "state = torch.load(sys.argv[1], map_location='cpu', weights_only=True)" + _SAVE,
    ),
    "torchscript": (".safetensors", _TORCH + "state = torch.jit.load(sys.argv[1], 'cpu').state_dict()" + _SAVE),
    "pickle": (
        ".npz",
        "import pickle, sys, numpy as np; "
        + _FLAT
        + "state = pickle.load(open(sys.argv[1], 'rb'), encoding='latin1'); "
        "np.savez(sys.argv[2], **{k: v for k, v in flat(state).items() if isinstance(v, np.ndarray)})",
    ),
}
_WRITERS = {"torch": "torch.save writes it", "torchscript": "torch.jit.save writes it", "pickle": "Python writes it"}


def kind(path: str | Path) -> str:
    """Finds the format of a file: "safetensors", "index" (of several safetensors), "npz", "h5" or "msgpack".

    Args:
      path: Path of the file, with any suffix.

    Raises:
      UserError: No such file, or one that cannot be read: a pickle (the message has a command that converts it), an
        archive, a web page or a pointer in place of the file, an empty file.
    """
    path = storage.path(path, "the file of weights")
    if is_folder(path):
        raise UserError(f"{path} is a folder, not a file of weights{_inside(path)}")
    if not is_file(path):
        raise UserError(f"no file of weights {shown(str(path))}")
    with reading(path), path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        raise UserError(f"cannot read {path}: it is empty, 0 bytes")
    if head.startswith(b"PK"):
        return _kind_of_zip(path)
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 27:
        return "safetensors"
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "h5"
    if LEGACY_TORCH in head[:32]:
        raise _pickle(path, "torch")
    if re.match(rb"\x80[\x02-\x05]|[}\]]q.|\(?[dl]p\d*\n|c[\w.]+\n\w+\n", head):
        raise _pickle(path, "torch" if path.suffix in (".pth", ".pt", ".th", ".bin", ".ckpt", ".tar") else "pickle")
    if re.match(rb"[\x81-\x8f]|\xde..|\xdf....", head, re.DOTALL):  # a map
        return "msgpack"
    for magic, what in MAGIC:
        if head.startswith(magic):
            raise UserError(f"cannot read {path}: it is {what}")
    if head[257:262] == b"ustar":
        raise UserError(f"cannot read {path}: it is a tar archive: unpack it first")
    return _kind_of_text(path, head)


def _kind_of_zip(path: Path) -> str:
    with reading(path), path.open("rb") as file, zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    inside = {name.rpartition("/")[2] for name in names}
    if "constants.pkl" in inside and any("/code/" in name for name in names):
        raise _pickle(path, "torchscript")
    if "data.pkl" in inside:
        raise _pickle(path, "torch")
    if "model.weights.h5" in inside:
        raise UserError(
            f"cannot read {path}: the format .keras numbers arrays and does not name them; "
            "keras.saving.load_model(FILE).save('model.h5') names them"
        )
    if any(name.endswith(".npy") for name in names):
        return "npz"
    raise UserError(f"cannot read {path}: it is a zip archive of {', '.join(names[:3]) or 'nothing'}: unpack it first")


def _kind_of_text(path: Path, head: bytes) -> str:
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"{"):
        return "index"
    if text.startswith(b"<"):
        raise UserError(f"cannot read {path}: it is a web page, probably from a failed download: download it again")
    printable = all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head)
    if printable:
        raise UserError(f"cannot read {path}: it is a text, {text[:60].decode()!r}. Weights are read from {READ}")
    if path.suffix in (".safetensors", ".npz", ".h5", ".hdf5", ".msgpack"):
        raise UserError(f"cannot read {path}: it does not begin as a {path.suffix} file does, so it is damaged")
    raise UserError(f"cannot read {path}: it is of an unknown format. Weights are read from {READ}")


def _pickle(path: Path, writer: str) -> UserError:
    suffix, program = COMMANDS[writer]
    command = f'python -c "{program}" {shlex.quote(str(path))} {shlex.quote(str(path.with_suffix(suffix)))}'
    return UserError(
        f"{path} is a pickle, as {_WRITERS[writer]}, and a pickle may run any code when it is opened. If you trust it, "
        f"this command converts it to a {suffix} file:\n  {command}"
    )


def _inside(folder: Path) -> str:
    """Lists the files of weights in a folder, for a message."""
    suffixes = (".safetensors", ".index.json", ".npz", ".h5", ".msgpack", ".bin", ".pth", ".pt", ".ckpt")
    with reading(folder):
        names = sorted(p.name for p in folder.iterdir() if p.name.endswith(suffixes))
    return f": name a file in it, such as {', '.join(names[:5])}" if names else ""
