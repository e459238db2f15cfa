"""Data: from files to batches of uint8 arrays whose content is a function of (seed, step) alone.

In the order in which an example meets them:

    shapes.py     the embedded data set, rendered at first use (shapes_scene.py, shapes_render.py)
    sources/      open_source: folders, tar shards, Parquet, manifests, CIFAR, IDX, TFDS sets, mixtures of them
    subsets.py    nested class-balanced subsets of a source
    formats.py    the image formats that are read; signatures.py: what other bytes are, in words
    host_ops/     decode, crop and resize, as specs: "decode|random_resized_crop(224)" (decoding.py, resizing.py)
    text/         captions to token ids: tokenizers, and the host operations "class_captions" and "tokenize"
    wanted.py     which fields of a set a batch is made of
    overlap.py    how many examples two splits share
    order.py      which example stands at which position of the endless shuffled stream
    reader.py     one processed example; bad images named, counted, bounded (bad.py: over a whole run)
    loader.py     batches for training and evaluation, by host; workers.py: in threads or processes
    resident.py   small sets, read into memory once
    statistics.py mean, deviation, mean image and principal components of a split

Behind `jaxvision data`:

    prepare.py    a set of the TFDS catalog, downloaded and written as ArrayRecord
    convert.py    a set in TFRecord to ArrayRecord; tfrecord.py reads the records
    cache.py      a copy with its images resized
    staging.py    what is written appears when it is whole
"""

from jaxvision.data import text  # registers its host operations
from jaxvision.data.loader import eval_batches, train_batches
from jaxvision.data.sources import Info, Source, check_classes, open_source
from jaxvision.data.subsets import Subset, take

__all__ = ["Info", "Source", "Subset", "check_classes", "eval_batches", "open_source", "take", "text", "train_batches"]
