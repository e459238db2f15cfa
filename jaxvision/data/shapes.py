"""`shapes`, the embedded data set: rendered scenes of simple objects, prepared on first use as a TFDS data set.

The label is the kind of the main object, the largest of the scene: one of ten outlines in varied
size, colour, texture, position, tilt and light, in front of a textured background and among up to
three smaller objects, which may hide a part of it. Every example also has a caption, and a box, a
kind, a colour and a texture for each object, and a mask that tells the objects apart. Captions
speak of left and right: do not flip images that are trained with them.

It is meant to be hard for pixels and learnable for networks. At 32 pixels and with 30,000 training
examples, a nearest-neighbour classifier on pixels reaches about 27 % and a linear one about the
same; a ResNet-8 of width 16 passes 85 % after 1,000 steps of 128 examples.

Example `i` of a split is a function of the split and `i` alone, so the first examples of a larger
data set are those of a smaller one.
"""

import contextlib
import dataclasses
import functools
import io
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from jaxvision import path_names
from jaxvision.arguments import MAX_SIDE
from jaxvision.data import shapes_cells, shapes_render, shapes_scene
from jaxvision.errors import UserError, unknown
from jaxvision.progress import Progress

CLASSES: tuple[str, ...] = tuple(shapes_render.OUTLINES)
COLOURS: tuple[str, ...] = tuple(shapes_scene.COLOURS)
TEXTURES: tuple[str, ...] = tuple(shapes_render.TEXTURES)
QUESTIONS: dict[str, tuple[str, ...]] = {  # question -> classes, the possible answers
    "kind": CLASSES,
    **{name: question.classes for name, question in shapes_cells.QUESTIONS.items()},
}
SPLITS = shapes_scene.SPLITS
MIN_SIZE = shapes_scene.MIN_SIZE
SHARD = 5_000  # examples per file
AHEAD = 256  # examples rendered at once, enough to keep the threads busy


def render(split: str, index: int, image_size: int = 32, question: str = "kind") -> dict:
    """Renders one example; the same on any machine, in any process and for any size of the data set.

    Args:
      split: "train", "validation" or "test".
      index: Position in the split, from 0.
      image_size: Side of the image in pixels, at least 32. The scene does not depend on it.
      question: Question that the label answers, a key of `QUESTIONS`: "kind", that of the main object, or one of
        `shapes_cells`, which has scenes of its own.

    Returns:
      A dict, with s = `image_size`:
        "image": uint8 [s, s, 3];
        "label": int, position in `QUESTIONS[question]`;
        "caption": str;
        "instance_mask": uint8 [s, s, 1], 0 for background and i + 1 where object i is visible;
        "objects": a list of dicts, the main object first if there is one, with "label", "colour" and "texture" (str)
          and "bbox", the smallest box around the visible pixels: (ymin, xmin, ymax, xmax) as fractions of the image, as
          in TFDS.

    Raises:
      UserError: The split or the question is unknown, the index negative, or the image size out of range.

    >>> example = render("train", 0)
    >>> example["image"].shape, CLASSES[example["label"]]
    ((32, 32, 3), 'heart')
    """
    if split not in SPLITS:
        raise unknown("split of shapes", split, SPLITS)
    if index < 0:
        raise UserError(f"the index of an example of shapes starts at 0, got {index}")
    _check_size(image_size)
    check_question(question)
    if question == "kind":
        scene = shapes_scene.sample(split, index)
        label, caption = CLASSES.index(scene.objects[0].kind), shapes_scene.caption(scene)
    else:
        scene, label = shapes_cells.sample(question, split, index)
        caption = shapes_cells.caption(scene)
    image, mask = shapes_render.draw(scene, image_size)
    objects = [
        {"label": o.kind, "colour": o.colour, "texture": o.texture, "bbox": _box(mask[:, :, 0] == i + 1)}
        for i, o in enumerate(scene.objects)
    ]
    return {"image": image, "label": label, "caption": caption, "instance_mask": mask, "objects": objects}


def check_question(question: str) -> None:
    """Refuses a question that `shapes` cannot answer.

    Args:
      question: Name of the question.

    Raises:
      UserError: The question is unknown.
    """
    if question not in QUESTIONS:
        raise unknown("question of shapes", question, QUESTIONS)


def _check_size(image_size: int) -> None:
    if not MIN_SIZE <= image_size <= MAX_SIDE:
        raise UserError(
            f"shapes renders images of at least {MIN_SIZE} pixels and at most {MAX_SIDE:,}, got image_size={image_size}"
        )


def _box(shown: np.ndarray) -> tuple[float, float, float, float]:
    rows, cols = np.flatnonzero(shown.any(1)), np.flatnonzero(shown.any(0))
    edges = (rows[0], cols[0], rows[-1] + 1, cols[-1] + 1)
    ymin, xmin, ymax, xmax = (float(edge) / len(shown) for edge in edges)
    return ymin, xmin, ymax, xmax


def features(size: int, question: str = "kind") -> tfds.features.FeaturesDict:
    """Returns the TFDS features of an example.

    Args:
      size: Side of the image in pixels.
      question: Question that the label answers, a key of `QUESTIONS`.
    """
    names = tfds.features.ClassLabel
    each = {
        "label": names(names=CLASSES),
        "colour": names(names=COLOURS),
        "texture": names(names=TEXTURES),
        "bbox": tfds.features.BBoxFeature(),
    }
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(size, size, 3), encoding_format="png"),
            "label": names(names=QUESTIONS[question]),
            "caption": tfds.features.Text(),
            # Not an Image: TFDS would decode a second PNG for every example that is read.
            "instance_mask": tfds.features.Tensor(shape=(size, size, 1), dtype=np.uint8, encoding="zlib"),
            "objects": tfds.features.Sequence(each),
        }
    )


@dataclasses.dataclass
class Config(tfds.core.BuilderConfig):
    """Options of one prepared `shapes`; its name is that of the folder.

    Attributes:
      name: Name of the folder, made from the other options.
      image_size: Side of the images in pixels.
      train: Number of examples in the training split.
      validation: Number of examples in the validation split.
      test: Number of examples in the test split.
      question: Question that the labels answer.
    """

    name: str = ""
    image_size: int = 32
    train: int = 60_000
    validation: int = 5_000
    test: int = 5_000
    question: str = "kind"

    def __post_init__(self):
        asked = "" if self.question == "kind" else f"-{self.question}"
        self.name = f"{self.image_size}px-{self.train}-{self.validation}-{self.test}{asked}"


class Shapes(tfds.core.ShardBasedBuilder):
    """The `shapes` data set as a TFDS builder; use `prepare_shapes` to get one.

    A `GeneratorBasedBuilder` would hold a whole split in memory, and need TensorFlow for more than 1 GB.
    """

    progress = Progress("rendering shapes")
    VERSION = tfds.core.Version("1.0.0")  # raise it with any change to a pixel or a caption
    BUILDER_CONFIGS = [Config()]

    def _info(self) -> tfds.core.DatasetInfo:
        config = self.builder_config
        return tfds.core.DatasetInfo(
            builder=self,
            description=__doc__ if config.question == "kind" else shapes_cells.__doc__,
            features=features(config.image_size, config.question),
            supervised_keys=("image", "label"),
            disable_shuffling=True,  # record i is example i
        )

    def _shard_iterators_per_split(self, dl_manager) -> dict[str, list[Callable]]:
        counts = {split: getattr(self.builder_config, split) for split in SPLITS}
        return {
            split: [functools.partial(self._examples, split, i, min(i + SHARD, n)) for i in range(0, n, SHARD)]
            for split, n in counts.items()
        }

    def _examples(self, split: str, start: int, stop: int) -> Iterator[tuple[int, dict]]:
        """Yields `(index, example)` in order, rendered by threads."""
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            config = self.builder_config
            render_one = functools.partial(_encoded, split, image_size=config.image_size, question=config.question)
            for first in range(start, stop, AHEAD):
                indices = range(first, min(first + AHEAD, stop))
                for numbered in zip(indices, pool.map(render_one, indices)):
                    yield numbered
                    self.progress.advance()


def _encoded(split: str, index: int, image_size: int, question: str) -> dict:
    """Returns an example as TFDS writes it without TensorFlow: the image as PNG."""
    example = render(split, index, image_size, question)
    png = io.BytesIO()
    Image.fromarray(example["image"]).save(png, "png", compress_level=1)
    objects = [o | {"bbox": tfds.features.BBox(*o["bbox"])} for o in example["objects"]]
    return example | {"image": png.getvalue(), "objects": objects}


def prepare_shapes(
    data_dir: str | Path,
    *,
    image_size: int = 32,
    train: int = 60_000,
    validation: int = 5_000,
    test: int = 5_000,
    question: str = "kind",
) -> Shapes:
    """Returns the builder of a `shapes` data set on disk; renders the set on first use.

    Files appear in `data_dir/shapes/` only when they are complete, so an interrupted call leaves nothing that could be
    mistaken for a data set. If two processes prepare the same set, both render it, and the first to finish supplies the
    files. The network is not used.

    Args:
      data_dir: Folder of prepared data sets; each choice of the arguments below has its own folder in it.
      image_size: Side of the images in pixels, at least 32.
      train: Number of examples in the training split, at least 1.
      validation: Number of examples in the validation split, at least 1.
      test: Number of examples in the test split, at least 1.
      question: Question that the labels answer, a key of `QUESTIONS`.

    Raises:
      UserError: An image size or a number of examples is out of range, the question is unknown, or the folder cannot be
        written.
    """
    _check_size(image_size)
    check_question(question)
    for split, count in zip(SPLITS, (train, validation, test)):
        if count < 1:
            raise UserError(f"shapes needs at least one example in every split, got {split}={count}")
    config = Config(image_size=image_size, train=train, validation=validation, test=test, question=question)
    if config == Shapes.BUILDER_CONFIGS[0]:
        config = Shapes.BUILDER_CONFIGS[0]  # TFDS wants this very object for a name that it knows
    builder = _builder(data_dir, config)
    if _is_prepared(builder):
        return builder
    total = train + validation + test
    print(
        f"rendering {total:,} images of {image_size} pixels into {builder.data_dir} (once)", file=sys.stderr, flush=True
    )
    builder.progress = Progress("rendering shapes", total, "images")
    tfds.disable_progress_bar()  # it shows one for each split and shard, even in a pipe
    try:
        with builder.progress, contextlib.redirect_stdout(None):  # TFDS prints lines on downloads
            builder.download_and_prepare(download_config=tfds.download.DownloadConfig(try_download_gcs=False))
    except OSError as error:
        builder = _builder(data_dir, config)
        if not _is_prepared(builder):  # else another process was first
            raise UserError(f"cannot prepare shapes in {data_dir}: {error}") from error
    return builder


def is_rendered(data_dir: str | Path, **options: Any) -> bool:
    """Returns whether a `shapes` data set is on disk, so that `prepare_shapes` would not render it.

    Args:
      data_dir: Folder of prepared data sets.
      **options: Further arguments of `prepare_shapes`.
    """
    config = Config(**options)
    return _is_prepared(
        _builder(data_dir, Shapes.BUILDER_CONFIGS[0] if config == Shapes.BUILDER_CONFIGS[0] else config)
    )


def _builder(data_dir: str | Path, config: Config) -> Shapes:
    return Shapes(data_dir=path_names.expanded(data_dir, "data_dir"), config=config, file_format="array_record")


def _is_prepared(builder: Shapes) -> bool:
    # builder.is_prepared() returns the same, with a warning if there is nothing yet.
    return (Path(builder.data_dir) / "dataset_info.json").exists()
