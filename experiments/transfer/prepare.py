"""Prepares the study: Fashion-MNIST (Xiao et al. 2017) as a folder tree, and MLPerf Tiny's ResNet-8 as our weights.

Run:  python experiments/transfer/prepare.py SOURCE_DIR WEIGHTS OUT_DIR

SOURCE_DIR must contain the four idx files of Fashion-MNIST, `train-images-idx3-ubyte.gz` and the others, or only their
first records. WEIGHTS is `pretrainedResnet.h5` of github.com/mlcommons/tiny, or its arrays as `.npz`. OUT_DIR gets
`fashion/train/CLASS/NNNNN.png`, `fashion/validation/...` (the last 1,000 records of the training file),
`fashion/test/...` (the test file), and `resnet8/`, the converted weights.
"""

import argparse
import gzip
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from jaxvision.commands import convert

CLASSES = ("tshirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle_boot")
VALIDATION = 1_000


def read_idx(path: Path) -> np.ndarray:
    """Reads images uint8 [n, 28, 28], or labels uint8 [n].

    Args:
      path: Compressed idx file.
    """
    data = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8)
    return data[16:].reshape(-1, 28, 28) if data[3] == 3 else data[8:]  # the fourth byte is the number of axes


def write_split(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Writes the images of a split as PNG files, one folder per class.

    Args:
      folder: Folder to write.
      images: Images uint8 [n, 28, 28].
      labels: Labels [n], indices of `CLASSES`.
    """
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
    for i, (image, label) in enumerate(zip(images, labels)):
        Image.fromarray(image).save(folder / CLASSES[label] / f"{i:05d}.png", compress_level=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("source", "weights", "out"):
        parser.add_argument(name, type=Path, metavar=name.upper())
    args = parser.parse_args()
    if args.out.exists():
        sys.exit(f"{args.out} exists already")
    convert.run_convert(args.weights, args.out / "resnet8", source="keras", model="mlperf_resnet8")
    images, labels = (read_idx(args.source / f"train-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1"))
    write_split(args.out / "fashion" / "train", images[:-VALIDATION], labels[:-VALIDATION])
    write_split(args.out / "fashion" / "validation", images[-VALIDATION:], labels[-VALIDATION:])
    images, labels = (read_idx(args.source / f"t10k-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1"))
    write_split(args.out / "fashion" / "test", images, labels)


if __name__ == "__main__":
    main()
