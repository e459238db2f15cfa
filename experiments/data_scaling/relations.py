"""The preset `relations`: a crossing that is constructed, not found.

`shapes` asks what the left of two distant objects is, and whether the right one is of the same kind. The kind is a
matter of recognition, which a ResNet learns from few images. The relation needs objects whose distance is about the
receptive field of ResNet-8, 25 pixels, but no more than attention for a ViT. So the label is made to be won by the
ResNet on few images and by the ViT on many; the study shows only that such a label exists. README.md lists the pilots
that led to it.
"""

from collections.abc import Sequence
from typing import Any

from jaxvision.analysis import words
from jaxvision.analysis.crossing import Crossing

SIZES = (500, 4_000, 32_000)
_DATA = dict(
    name="shapes",
    host="decode",
    batch_size=32,
    classes=10,
    examples=32_000,
    split="train",
    options=dict(image_size=32, train=32_000, validation=3_000, test=1_000, question="kind_same"),
)


def preset(base: Any) -> Any:
    """Returns the preset `relations`.

    Args:
      base: Preset whose arms and hyperparameters it has.
    """
    resnet, vit = base.arms["ResNet-8"], base.arms["ViT-64"]
    arms = {  # a quarter of the width's cost on four times the pixels: FLOPs as of ResNet-8 and ViT-64 at 16 pixels
        "ResNet-8x0.5": resnet._replace(model=resnet.model | dict(width=0.5)),
        "BiT-8x0.5": resnet._replace(model=dict(name="bit", variant="R8x1", width=0.5)),
        "ViT-64-P8": vit._replace(model=vit.model | dict(variant="Ti/8")),
    }
    pair = base.pairs[0]._replace(resnet="ResNet-8x0.5", vit="ViT-64-P8", sizes=SIZES)
    return base._replace(
        title="a relation of distant objects in shapes",
        data=_DATA,
        evals=dict(val=dict(name="classify", split="validation", every="20 percent", batch_size=500)),
        measures={},
        augment="normalize(0.5, 0.5)",
        arms=arms,
        pairs=(pair, pair._replace(resnet="BiT-8x0.5")),
        seeds=(0, 1, 2, 3, 4),
        steps=2_000,
        support="",
        rates=(),
        tuned_sizes=(),
        long=0,
        long_seeds=(),
        transfer=None,
        needs_dir="",
        crosses=True,
    )


def criteria(result: Crossing, sizes: Sequence[int]) -> dict[str, tuple[bool, str]]:
    """Judges whether a ResNet leads on few images and a ViT on many.

    Args:
      result: Lead of the ResNet over the ViT, and where it ends.
      sizes: Numbers of training examples, ascending.

    Returns:
      Criterion -> whether it is met, and the evidence.
    """
    first, last = result.lead[sizes[0]], result.lead[sizes[-1]]
    place = result.observed
    inside = sizes[0] < place.low and place.high < sizes[-1]
    ends = f"{place.low:,.0f} to {place.high:,.0f}"
    return {
        "few": (first.interval.low > 0, f"gap at {sizes[0]:,} examples: {words.points(first)}"),
        "many": (last.interval.high < 0, f"gap at {sizes[-1]:,} examples: {words.points(last)}"),
        "inside": (inside, f"the gap is zero at {place.mean:,.0f} examples, 95 % interval {ends}"),
    }
