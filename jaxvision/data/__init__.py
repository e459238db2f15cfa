"""Data: from files to batches of uint8 arrays whose content is a function of (seed, step) alone.

In the order in which an example meets them:

    shapes.py     the embedded data set, rendered at first use (shapes_scene.py, shapes_render.py)
    sources.py    open_source: shapes, a folder of images, any prepared TFDS set
    subsets.py    nested class-balanced subsets of a source
    host_ops.py   decode, crop and resize, as specs: "decode|random_resized_crop(224)"
    order.py      which example stands at which position of the endless shuffled stream
    reader.py     one processed example; bad images named, counted, bounded
    loader.py     batches for training and evaluation, in threads, by process
    resident.py   small sets, read into memory once
"""

from jaxvision.data.loader import eval_batches, train_batches
from jaxvision.data.sources import Info, Source, check_classes, open_source
from jaxvision.data.subsets import Subset, take

__all__ = ["Info", "Source", "Subset", "check_classes", "eval_batches", "open_source", "take", "train_batches"]
