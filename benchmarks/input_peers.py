"""The input pipelines that input_pipeline.py compares with: tf.data, and torch's DataLoader with torchvision.

Each function is called in its own process and returns `run(examples) -> number of examples read`.
"""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

Run = Callable[[int], int]

SIZE, BATCH = 224, 64


def tf_crop(paths: list[str], cores: int, dtype: str) -> Run:
    """Random crops and flips by tf.data.

    Args:
      paths: Paths of the JPEGs.
      cores: Number of threads.
      dtype: Type of the images, "uint8" or "float32".
    """
    tf = _tensorflow(cores)

    def example(path):
        image = tf.image.random_flip_left_right(_tf_crop(tf, tf.io.read_file(path)))
        return tf.cast(image, tf.uint8) if dtype == "uint8" else image / 255

    return partial(_tf_run, _tf_files(tf, paths, example))


def tf_simclr(paths: list[str], cores: int) -> Run:
    """The transform of Chen et al. 2020, appendix A, as in google-research/simclr: strength 1, kernel of 23 pixels.

    Args:
      paths: Paths of the JPEGs.
      cores: Number of threads.
    """
    tf = _tensorflow(cores)
    offsets = tf.range(-11, 12, dtype=tf.float32)

    def jitter(image):
        image = image * tf.random.uniform([], 0.2, 1.8)
        image = tf.clip_by_value(tf.image.random_contrast(image, 0.2, 1.8), 0, 1)
        return tf.clip_by_value(tf.image.random_hue(tf.image.random_saturation(image, 0.2, 1.8), 0.2), 0, 1)

    def blur(image):
        kernel = tf.exp(-(offsets**2) / (2 * tf.random.uniform([], 0.1, 2.0) ** 2))
        kernel = tf.tile((kernel / tf.reduce_sum(kernel))[:, None, None, None], [1, 1, 3, 1])
        image = tf.nn.depthwise_conv2d(image[None], kernel, [1, 1, 1, 1], "SAME")
        return tf.nn.depthwise_conv2d(image, tf.transpose(kernel, [1, 0, 2, 3]), [1, 1, 1, 1], "SAME")[0]

    def maybe(p, function, image):
        return tf.cond(tf.random.uniform([]) < p, lambda: function(image), lambda: image)

    def view(data):
        image = tf.image.random_flip_left_right(_tf_crop(tf, data) / 255)
        image = maybe(0.8, jitter, image)
        image = maybe(0.2, lambda x: tf.tile(tf.image.rgb_to_grayscale(x), [1, 1, 3]), image)
        image = maybe(0.5, blur, image)
        return tf.cast(255 * tf.clip_by_value(image, 0, 1), tf.uint8)

    def example(path):
        data = tf.io.read_file(path)
        return view(data), view(data)

    return partial(_tf_run, _tf_files(tf, paths, example))


def tf_small(images: np.ndarray, cores: int) -> Run:
    """Random crops, flips and colour jitter of small images by tf.data.

    Args:
      images: Images, uint8 [n, 32, 32, 3].
      cores: Number of threads.
    """
    tf = _tensorflow(cores)

    def example(image):
        image = tf.image.random_crop(tf.image.resize_with_crop_or_pad(image, 40, 40), [32, 32, 3])
        image = tf.image.random_flip_left_right(tf.cast(image, tf.float32) / 255)
        image = image * tf.random.uniform([], 0.6, 1.4)
        image = tf.clip_by_value(tf.image.random_contrast(image, 0.6, 1.4), 0, 1)
        return tf.clip_by_value(tf.image.random_saturation(image, 0.6, 1.4), 0, 1)

    data = tf.data.Dataset.from_tensor_slices(images).repeat().shuffle(1000)
    return partial(_tf_run, data.map(example, tf.data.AUTOTUNE).batch(BATCH).prefetch(2))


def _tensorflow(cores: int):
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(cores)
    tf.config.threading.set_inter_op_parallelism_threads(cores)
    return tf


def _tf_crop(tf, data):
    """Decodes only the random box, then resizes it: float32 in [0, 255]."""
    begin, size, _ = tf.image.sample_distorted_bounding_box(
        tf.io.extract_jpeg_shape(data),
        tf.constant([0.0, 0, 1, 1], shape=[1, 1, 4]),
        min_object_covered=0.1,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1),
    )
    image = tf.image.decode_and_crop_jpeg(data, tf.concat([begin[:2], size[:2]], 0), channels=3)
    return tf.image.resize(image, (SIZE, SIZE))


def _tf_files(tf, paths, example):
    data = tf.data.Dataset.from_tensor_slices(paths).repeat().shuffle(len(paths))
    return data.map(example, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(2)


def _tf_run(data, examples: int) -> int:
    batches = -(-examples // BATCH)
    for _ in data.take(batches):
        pass
    return batches * BATCH


def torch_crop(paths: list[str], cores: int) -> Run:
    """Random crops and flips by torch.

    Args:
      paths: Paths of the JPEGs.
      cores: Number of worker processes.
    """
    t = _transforms()

    crop = t.Compose([t.RandomResizedCrop(SIZE), t.RandomHorizontalFlip(), t.PILToTensor()])
    return _torch_run(cores, len(paths), partial(_torch_file, paths, [crop]))


def torch_simclr(paths: list[str], cores: int) -> Run:
    """The two views of SimCLR by torch.

    Args:
      paths: Paths of the JPEGs.
      cores: Number of worker processes.
    """
    t = _transforms()

    view = t.Compose(
        [
            t.RandomResizedCrop(SIZE),
            t.RandomHorizontalFlip(),
            t.RandomApply([t.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
            t.RandomGrayscale(0.2),
            t.RandomApply([t.GaussianBlur(23, (0.1, 2.0))], 0.5),
            t.PILToTensor(),
        ]
    )
    return _torch_run(cores, len(paths), partial(_torch_file, paths, [view, view]))


def torch_small(images: np.ndarray, cores: int, policy: str) -> Run:
    """Random crops, flips and a colour policy on small images by torch.

    Args:
      images: Images, uint8 [n, 32, 32, 3].
      cores: Number of worker processes.
      policy: Policy of the colours, "color_jitter" or "randaugment".
    """
    t = _transforms()

    change = {"color_jitter": lambda: t.ColorJitter(0.4, 0.4, 0.4), "randaugment": lambda: t.RandAugment(2, 10)}[policy]
    transform = t.Compose([t.RandomCrop(32, 4), t.RandomHorizontalFlip(), change(), t.ToTensor()])
    return _torch_run(cores, len(images), partial(_torch_array, images, transform))


def _transforms():
    from torchvision_shim import allow_torchvision

    allow_torchvision()
    from torchvision import transforms

    return transforms


def _torch_file(paths: list[str], transforms: list, index: int):
    from PIL import Image

    with Image.open(Path(paths[index]), formats=("JPEG", "PNG")) as image:
        image = image.convert("RGB")
    return [transform(image) for transform in transforms]


def _torch_array(images: np.ndarray, transform, index: int):
    from PIL import Image

    return transform(Image.fromarray(images[index]))


class _Set:
    def __init__(self, size: int, read: Callable):
        self._size, self._read = size, read

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int):
        return self._read(index % self._size)


def _torch_run(workers: int, size: int, read: Callable) -> Run:
    """A DataLoader whose worker processes are started again for every turn: their CPU time counts when they end."""
    import torch

    def run(examples: int) -> int:
        size_of_turn = -(-examples // BATCH) * BATCH
        sampler = torch.randint(size, (size_of_turn,)).tolist()
        options = dict(sampler=sampler, num_workers=workers, multiprocessing_context="fork")
        for _ in torch.utils.data.DataLoader(_Set(size, read), BATCH, **options):
            pass
        return size_of_turn

    return run
