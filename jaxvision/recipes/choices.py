"""The numbers of a made config, as functions of the size of the set and of the family of the model.

Sources: linear scaling of SGD's rate, Goyal et al. 2017 (0.1 for 256 images); AdamW and augmentation of transformers,
Beyer et al. 2022 (0.001 for 1,024 images; here with the root of the batch size, since small batches would get almost
nothing); AlexNet and VGG, Simonyan & Zisserman 2015, sec. 3.1 (0.01 for 256); fine-tuning of a ResNet, Chen et al.
2020, app. B.8 (0.05 for 256), and of a ViT with lower rates for lower layers, He et al. 2022, app. A.2 (0.0005 for
256); BiT by its HyperRule. Lengths and batch sizes are round numbers that suit a single device; nothing is claimed for
them.
"""

import math
from typing import Any, NamedTuple

from jaxvision.models.sizes import split_variant

SMALL = 96  # images of one size up to this many pixels are used as they are
LARGE = 224  # side to which larger photographs are brought
MEGAPIXELS = 2_000_000  # from here on JPEGs are decoded at a reduced size
_PERCEPTRONS = ("mixer", "resmlp", "gmlp", "cycle_mlp", "s2_mlp")
_TRANSFORMERS = ("vit", *_PERCEPTRONS, "convnext", "swin", "swin_v2", "mvit_v2")  # trained by AdamW
_PLAIN = ("alexnet", "zfnet", "vgg")  # with the rate of their papers
_CIFAR_STEM = 48  # images up to this size get a stem that does not stride; beyond, it costs too much


class Length(NamedTuple):
    """A rule of numbers by the size of a set: the first row with more examples than the set.

    Attributes:
      rows: Pairs (examples, number).
    """

    rows: tuple[tuple[float, float], ...]

    def of(self, examples: int) -> float:
        """Returns the number for a set.

        Args:
          examples: Number of examples of the set.
        """
        return next(number for most, number in self.rows if examples < most)


EPOCHS = Length(((1_000, 200), (5_000, 100), (20_000, 60), (math.inf, 30)))
EPOCHS_FROM_WEIGHTS = Length(((1_000, 50), (5_000, 20), (math.inf, 10)))
BATCH = Length(((500, 16), (5_000, 32), (50_000, 128), (math.inf, 256)))
HOLD_OUT = Length(((2_000, 0.2), (20_000, 0.1), (math.inf, 0.05)))
EVALUATIONS = 20  # about so many in a run


def is_transformer(name: str) -> bool:
    """Returns whether a model is trained by AdamW and strong augmentation: a transformer, a model like one, your own.

    Args:
      name: Name of the model.
    """
    return name in _TRANSFORMERS or ":" in name


def batch_size(examples: int) -> int:
    """Returns the number of images in a step: a power of two, so that an epoch has four steps at least.

    Args:
      examples: Number of training images.

    >>> [batch_size(n) for n in (3, 60, 400, 3_000, 1_281_167)]
    [1, 8, 16, 32, 256]
    """
    most = int(BATCH.of(examples))
    while most > max(examples // 4, 1):
        most //= 2
    return most


def image_size(side: int, uniform: tuple[int, int] | None) -> int:
    """Returns the side of the images that a model sees.

    Args:
      side: Median of the shorter sides.
      uniform: (height, width) of all images, if they are alike.

    >>> image_size(28, (28, 28)), image_size(375, None), image_size(150, None), image_size(20, None)
    (28, 224, 128, 32)
    """
    if uniform and uniform[0] == uniform[1] <= SMALL:
        return uniform[0]
    return LARGE if side >= LARGE - 24 else max(side // 32 * 32, 32)


def fitting_size(model: dict[str, Any], size: int) -> int:
    """Returns the size nearest to `size` that a model can take.

    Args:
      model: Section `model`.
      size: Wanted side of the images.

    >>> fitting_size({"name": "vit", "variant": "S/16"}, 28), fitting_size({"name": "resnet"}, 28)
    (32, 28)
    """
    multiple = 1
    if model["name"] in ("vit", "mixer", "gmlp"):
        multiple = split_variant(model["name"], str(model.get("variant", "B/16")))[1]
    elif model["name"] == "convnext":
        multiple = 8 * int(model.get("patch", 4))
    elif model["name"] in ("swin", "swin_v2"):
        multiple = int(model.get("patch", 4))
    elif model["name"] == "s2_mlp":
        multiple = int(model.get("patch", 16))
    elif model["name"] == "resmlp":
        multiple = int(model.get("patch", 8 if model.get("variant") == "B24" else 16))
    return max(round(size / multiple), 1) * multiple


def for_small_images(model: dict[str, Any], size: int) -> tuple[dict[str, Any], str]:
    """Returns a model whose first layers suit small images, and the reason; the model itself if it does.

    Args:
      model: Section `model`.
      size: Side of the images.

    >>> for_small_images({"name": "resnet", "variant": "18"}, 32)[0]
    {'name': 'resnet', 'variant': '18', 'stem': 'cifar'}
    """
    if size > _CIFAR_STEM:
        return model, ""
    if model["name"] == "resnet" and str(model.get("variant", "50")) not in (
        "8",
        "20",
        "32",
        "44",
        "56",
        "110",
        "1202",
    ):
        return model | {"stem": "cifar"}, "a first layer of stride 1, since the images are small"
    if model["name"] in ("convnext", "swin", "swin_v2", "mvit_v2", "cycle_mlp"):
        return model | {"patch": 2}, "patches of 2 pixels instead of 4, since the images are small"
    return model, ""


def optimizer(name: str, batch: int, *, from_weights: bool) -> dict[str, Any]:
    """Returns the section `optimizer`.

    Args:
      name: Name of the model.
      batch: Number of images in a step.
      from_weights: True if the run starts from weights.

    >>> optimizer("resnet", 32, from_weights=False)["learning_rate"]
    0.0125
    >>> optimizer("vgg", 256, from_weights=False)["learning_rate"]
    0.01
    """
    if is_transformer(name):
        rate = 5e-4 * batch / 256 if from_weights else 1e-3 * math.sqrt(batch / 1024)
        section: dict[str, Any] = dict(name="adamw", learning_rate=_round(rate), weight_decay=0.05, clip_norm=1.0)
        if from_weights and ":" not in name:
            section["layer_decay"] = 0.75
    else:
        rate = (0.01 if name in _PLAIN else 0.05 if from_weights else 0.1) * batch / 256
        decay = 1e-4 if from_weights else 5e-4
        section = dict(name="sgd", learning_rate=_round(rate), momentum=0.9, nesterov=True, weight_decay=decay)
    return section | dict(schedule="cosine", warmup="5 percent")


def augmentation(
    name: str, examples: int, batch: int, size: int, *, direct: bool, mixes: bool, from_weights: bool
) -> list[str]:
    """Returns the operations on the device, without the normalisation.

    Args:
      name: Name of the model.
      examples: Number of training images.
      batch: Number of images in a step.
      size: Side of the images.
      direct: True if the host does not crop, so that the device has to.
      mixes: True if labels may be mixed: each image has one class.
      from_weights: True if the run starts from weights, which need less.
    """
    chain = [f"random_crop({size}, {max(size // 8, 1)})"] if direct else []
    chain.append("flip_lr")
    if from_weights:
        return chain
    if is_transformer(name):
        chain.append("randaugment(2, 10)")
        return [*chain, "mixup(0.2)"] if mixes and batch >= 8 else chain
    return [*chain, "trivialaugment"] if examples < 20_000 and size > SMALL else chain


def crop(size: int, examples: int, *, from_weights: bool) -> str:
    """Returns the operation on the host that cuts a random part of an image and resizes it.

    Args:
      size: Side of the result.
      examples: Number of training images; few are cut less, so that the subject stays in the picture.
      from_weights: True if the run starts from weights, which need less.
    """
    area = ", area=(0.25, 1.0)" if examples < 10_000 or from_weights else ""
    return f"random_resized_crop({size}{area})"


def _round(rate: float) -> float:
    return float(f"{rate:.3g}")
