"""Pillow's version of every operation of a policy, and the draws of a policy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps

from jaxvision import augment
from jaxvision.augment import policy


def _pillow(name: str, strength: float, image: np.ndarray, fill: int, resample=Image.Resampling.NEAREST):
    """Applies one operation of a policy to a uint8 [H, W, 3] image, and returns another."""
    picture, (h, w, _) = Image.fromarray(image), image.shape
    affine = {
        "shear_x": (1, strength, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, strength, 1, 0),
        "translate_x": (1, 0, strength * w, 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, strength * h),
    }
    enhance = {"color": "Color", "contrast": "Contrast", "brightness": "Brightness", "sharpness": "Sharpness"}
    if name in affine:
        picture = picture.transform((w, h), Image.Transform.AFFINE, affine[name], resample, fillcolor=(fill,) * 3)
    elif name == "rotate":
        picture = picture.rotate(strength, resample, fillcolor=(fill,) * 3)
    elif name in enhance:
        picture = getattr(ImageEnhance, enhance[name])(picture).enhance(strength)
    elif name == "solarize":
        picture = ImageOps.solarize(picture, strength)
    elif name == "posterize":
        picture = ImageOps.posterize(picture, int(strength)) if strength else Image.new("RGB", (w, h))
    elif name != "identity":
        picture = {"autocontrast": ImageOps.autocontrast, "equalize": ImageOps.equalize, "invert": ImageOps.invert}[
            name
        ](picture)
    return np.asarray(picture)


@pytest.fixture
def pillow():
    return _pillow


@pytest.fixture
def draw(monkeypatch):
    """`draw(spec, n, image, key)`: for each of n copies of an image, the (operation, strength) that a policy applies.

    Instead of applying it, each step writes what was drawn, brought to [0, 1], into the next row of a black image.
    """

    def run(spec, n, image, key=0):
        seen = []  # names of operations

        def record(names, index, strength, rng, image, fill=policy.GREY, method="nearest"):
            seen.extend(set(names) - set(seen))
            code = jnp.array([seen.index(name) + 1 for name in names])[index]
            row = (image[:, 0, 0] > 0).sum()
            return image.at[row, 0].set(jnp.stack([code / 32, strength / 1024 + 0.5, 0.0]))

        with monkeypatch.context() as patch:
            patch.setattr(policy, "apply_operation", record)
            batch = {"image": jnp.zeros((n, *image.shape))}
            images = jax.jit(augment.make_augmentation(spec))(jax.random.key(key), batch)["image"]
        codes = np.rint(np.asarray(images[:, :, 0, 0]) * 32).astype(int)  # 0 where nothing is applied
        strengths = np.round((np.asarray(images[:, :, 0, 1], np.float64) - 0.5) * 1024, 3)
        return [[(seen[code - 1], strength) for code, strength in zip(*rows) if code] for rows in zip(codes, strengths)]

    return run


@pytest.fixture
def photo():
    """A smooth uint8 [40, 48, 3] picture."""
    noise = np.random.default_rng(3).integers(0, 256, (5, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(noise).resize((48, 40), Image.Resampling.BICUBIC))
