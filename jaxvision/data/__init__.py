"""Data: from files to batches of uint8 arrays whose content is a function of (seed, step) alone.

In the order in which an example meets them:

    shapes.py     the embedded data set, rendered on first use (shapes_scene.py, shapes_cells.py,
                  shapes_render.py)
    sources/      open_source: folders, tar shards, Parquet, manifests, CIFAR, IDX, TFDS sets, mixtures of them
    subsets.py    nested class-balanced subsets of a source; numbered.py: labels with a given number of classes
    formats.py    the image formats that are read; signatures.py: other kinds of bytes, in words;
                  any_image.py: images that a Python program holds
    host_ops/     decode, crop and resize, as specs: "decode|random_resized_crop(224)" (decoding.py, resizing.py)
    text/         captions to token ids: tokenizers, and the host operations "class_captions" and "tokenize"
    wanted.py     the stored fields from which a batch is made
    overlap.py    how many examples two splits share
    order.py      the example at each position of the endless shuffled stream
    reader.py     one processed example; bad images are named, counted and bounded (bad.py: over a whole run)
    loader.py     batches for training and evaluation, by host; workers.py: in threads or processes
    resident.py   small sets, read into memory once; blank.py: an example of a set that is absent
    statistics.py mean, deviation, mean image and principal components of a split
    fingerprint.py  digests that tell one set from another

For the command `jaxvision data`:

    prepare.py    a set of the TFDS catalog, downloaded and written as ArrayRecord
    convert.py    a set in TFRecord to ArrayRecord; tfrecord.py reads the records
    cache.py      a copy with its images resized
    staging.py    writing a set that gets its name only when it is complete
"""

from jaxvision.data import text  # registers its host operations
from jaxvision.data.loader import eval_batches, train_batches
from jaxvision.data.sources import Info, Source, check_classes, open_source
from jaxvision.data.subsets import Subset, take

__all__ = ["Info", "Source", "Subset", "check_classes", "eval_batches", "open_source", "take", "text", "train_batches"]
