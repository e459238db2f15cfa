"""Small data sets for the tests of jaxvision.data."""

import io

import numpy as np
import pytest
from PIL import Image

from jaxvision.data.sources import Info, Source


def _encode(image: np.ndarray, kind: str = "PNG", **options) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


def _photo(seed: int, height: int = 60, width: int = 80) -> np.ndarray:
    """A smooth random uint8 [height, width, 3] picture."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture
def encode():
    return _encode


@pytest.fixture
def photo():
    return _photo


class Pictures(Source):
    """A source of encoded images with labels 0, 1, 2, 0, ..."""

    def __init__(self, images: list[bytes]):
        self.images = images
        self.info = Info("pictures", "train", len(images), ("a", "b", "c"), 3)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        return {"image": self.images[index], "label": index % 3, "weight": index / 2}


@pytest.fixture
def pictures() -> Pictures:
    """23 pictures of one size; the mean of each tells it apart."""
    return Pictures([_encode(_photo(i)) for i in range(23)])


@pytest.fixture
def folder(tmp_path):
    """A tree of two splits and two classes with 7 training and 4 validation images."""
    for split, per_class in {"train": {"cat": 4, "dog": 3}, "validation": {"cat": 2, "dog": 2}}.items():
        for name, count in per_class.items():
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                (tmp_path / split / name / f"{i}.png").write_bytes(_encode(_photo(i, 8, 8)))
    return tmp_path
