"""Writes CIFAR-10 (Krizhevsky 2009) as a tree of PNG files, for `data.name="folder"`.

Run:  python experiments/data_scaling/make_cifar10_folder.py SOURCE_DIR OUT_DIR

SOURCE_DIR must contain the five training batches, either as the official binary version
(`data_batch_1.bin` to `data_batch_5.bin`, from cifar-10-binary.tar.gz) or as zip files
(`data_batch_1.zip` ...) of lossless image strips, 32 pixels wide, with `labels.npy`.

OUT_DIR gets 45,000 images `train/CLASS/NNNNN.png`, and the last 5,000 of batch 5 as
`validation/CLASS/NNNNN.png`. NNNNN is the index of the image in the five batches. The tree is written next to OUT_DIR
and renamed when it is complete. The official test set is not used.
"""

import argparse
import io
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAIN = 45_000


def read_binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads images uint8 [n, 32, 32, 3] and labels uint8 [n] from an official binary batch.

    Args:
      path: File `data_batch_N.bin`.
    """
    records = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 1 + 3 * 32 * 32)
    return records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, 0]


def read_strips(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Reads images uint8 [n, 32, 32, 3] and labels uint8 [n] from a zip of strips.

    Args:
      path: Zip file of image strips, with `labels.npy`.
    """
    with zipfile.ZipFile(path) as archive:
        names = sorted(n for n in archive.namelist() if n.startswith("strip"))
        strips = [
            np.asarray(Image.open(io.BytesIO(archive.read(n)), formats=("PNG", "WEBP", "JPEG")).convert("RGB"))
            for n in names
        ]
        labels = np.load(io.BytesIO(archive.read("labels.npy")))
    return np.concatenate(strips).reshape(-1, 32, 32, 3), labels


def read_batch(source: Path, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads one of the five training batches, in either format.

    Args:
      source: Folder of the five batches.
      number: Number of the batch, 1 to 5.

    Returns:
      Images uint8 [n, 32, 32, 3] and labels uint8 [n].
    """
    binary, strips = source / f"data_batch_{number}.bin", source / f"data_batch_{number}.zip"
    if binary.exists():
        return read_binary(binary)
    if strips.exists():
        return read_strips(strips)
    sys.exit(f"neither {binary} nor {strips} exists")


def write_tree(source: Path, out: Path) -> None:
    """Writes all images as PNG files.

    Args:
      source: Folder of the five batches.
      out: Folder to write.
    """
    index = 0
    for number in range(1, 6):
        images, labels = read_batch(source, number)
        for image, label in zip(images, labels):
            folder = out / ("train" if index < TRAIN else "validation") / CLASSES[label]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{index:05d}.png", compress_level=1)
            index += 1
        print(f"batch {number}: {len(images)} images")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="SOURCE_DIR")
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    args = parser.parse_args()
    if args.out.exists():
        sys.exit(f"{args.out} exists already")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{args.out.name}-", dir=args.out.parent))
    try:
        write_tree(args.source, unfinished)
        unfinished.chmod(0o755)  # mkdtemp makes it private
        unfinished.rename(args.out)
    except BaseException:
        shutil.rmtree(unfinished)
        raise


if __name__ == "__main__":
    main()
