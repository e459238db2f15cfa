"""How the operations of a chain treat what lies in an image: segmentations, boxes and points."""

from jaxvision.augment.moves import Rule
from jaxvision.augment.operations import Operation
from jaxvision.augment.registry import check_number, ops


@ops.register()
def placed(least_area: float = 0.1, fill: int = 0):
    """Says how the operations after it move segmentations and boxes, and changes nothing itself.

    `"placed(fill=255)|random_crop(32, 4)"`. Without it, the defaults hold.

    Args:
      least_area: Share of its area below which a box is dropped, in [0, 1]: of the area that it would have in a larger
        image, for each operation by itself. 0 drops boxes that lie outside.
      fill: Value of pixels of a segmentation that move into view: 0, often the background, or a number that a loss
        leaves out, often 255.
    """
    check_number("placed", "least_area", least_area, high=1)

    def bind(call, scene):
        return lambda rng, batch: batch, scene._replace(rule=Rule(least_area, fill))

    return Operation(bind)
