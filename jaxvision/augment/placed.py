"""Options of the operations that move segmentations, boxes and points with their image."""

from jaxvision.augment.moves import Rule
from jaxvision.augment.operations import Operation
from jaxvision.augment.registry import check_number, ops


@ops.register()
def placed(least_area: float = 0.1, fill: int = 0) -> Operation:
    """Sets options of the operations after it, which move segmentations and boxes; it changes nothing itself.

    For example `"placed(fill=255)|random_crop(32, 4)"`. Without it, the defaults below apply.

    Args:
      least_area: Least share of its area that a box must keep when an operation clips it to the image, in [0, 1]; other
        boxes are dropped. 0 drops only boxes that lie outside.
      fill: Value of pixels of a segmentation that move into view: 0, often the background, or a value that the loss
        ignores, often 255.
    """
    check_number("placed", "least_area", least_area, high=1)

    def bind(call, scene):
        return lambda rng, batch: batch, scene._replace(rule=Rule(least_area, fill))

    return Operation(bind)
