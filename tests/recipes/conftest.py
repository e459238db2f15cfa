"""Small folders of made-up photographs."""

import numpy as np
import pytest
from PIL import Image

COLOURS = {"cat": (200, 120, 60), "dog": (60, 120, 200), "bird": (90, 200, 90)}


def _photo(path, colour=(120, 120, 120), size=(64, 48), seed=0, **options):
    """Writes a smooth picture of a colour."""
    noise = np.random.default_rng(seed).integers(-40, 40, (6, 8, 3))
    pixels = np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(path, **options)


@pytest.fixture
def photo():
    return _photo


@pytest.fixture
def photos(tmp_path):
    """Ten photographs of mixed sizes in each of two class folders."""
    root = tmp_path / "my photos"
    for k, name in enumerate(("cat", "dog")):
        for i in range(10):
            size = (64 + 4 * i, 48) if i % 2 else (48, 64 + 4 * i)
            _photo(root / name / f"IMG {i}.jpg", COLOURS[name], size, seed=10 * k + i)
    return root
