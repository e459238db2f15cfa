"""The order of a model's layers: which parameters lie how far from its input, for layer decay and freezing.

A model says it by a method of its module,

    def layer_order(self):
        return ("embedding", "cls"), ("encoder/block_00",), ("encoder/block_01",)

groups of paths of its parameters from the input on; a path stands for all that lies under it. What is in none of them
lies above all: final norm, pooling, head, and what a task puts on top. A model of several networks returns a dict of
such groups, by the name under which the parameters of each lie.
"""

from collections.abc import Mapping
from typing import Any

from jaxvision.errors import UserError

Groups = tuple[tuple[str, ...], ...]
STEM = tuple(f"stem_{kind}{i}" for kind in ("conv", "norm") for i in ("", 1, 2, 3))  # those that there are


def stem_and_stages(count: int, first: tuple[str, ...] = STEM) -> Groups:
    """The groups of a network of a stem and of stages.

    >>> stem_and_stages(2, ("stem_conv",))
    (('stem_conv',), ('stage1',), ('stage2',))
    """
    return first, *((f"stage{i + 1}",) for i in range(count))


def input_and_blocks(depth: int, scan: bool, first: tuple[str, ...]) -> Groups:
    """The groups of a transformer, `transformer.Encoder` of `depth` blocks under the name "encoder".

    Raises:
      UserError: Its layers are scanned, so that the weights of all are one array.

    >>> input_and_blocks(2, False, ("embedding", "cls"))
    (('embedding', 'cls'), ('encoder/block_00',), ('encoder/block_01',))
    """
    if scan:
        raise UserError(
            "layer_decay and init.freeze tell layers apart, and those of a scanned model are one array: set "
            "model.scan=False, or use lr_rules or optimizer.freeze"
        )
    return first, *((f"encoder/block_{i:02}",) for i in range(depth))


def layer_order(module: Any) -> dict[str, Groups]:
    """The groups of a model, by the name of each of its networks; "" of a model of one.

    Raises:
      UserError: The model does not say it.
    """
    if not hasattr(module, "layer_order"):
        raise UserError(
            f"layer_decay and init.freeze need the order of the layers, and the model {type(module).__name__} does not "
            "say it: give it a method layer_order, see docs/extending.md; or use lr_rules or optimizer.freeze"
        )
    found = module.layer_order()
    return dict(found) if isinstance(found, Mapping) else {"": tuple(map(tuple, found))}
