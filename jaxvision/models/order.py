"""The order of a model's layers, from its input on, for layer decay and freezing.

A model states the order by a method of its module:

    def layer_order(self):
        return ("embedding", "cls"), ("encoder/block_00",), ("encoder/block_01",)

The method returns groups of paths of parameters, from the input on. A path stands for all parameters under it.
Parameters in none of the groups are above all of them: final norm, pooling, head, and the layers that a task adds. A
model of several networks returns a dict of such groups, by the first part of the paths of each network.
"""

from collections.abc import Mapping

import flax.linen as nn

from jaxvision.errors import UserError

Groups = tuple[tuple[str, ...], ...]
STEM = tuple(f"stem_{kind}{i}" for kind in ("conv", "norm") for i in ("", 1, 2, 3))  # a network has some of these


def stem_and_stages(count: int, first: tuple[str, ...] = STEM) -> Groups:
    """Makes the groups of a network of a stem and stages.

    Args:
      count: Number of stages.
      first: Paths of the stem's parameters; paths that the model does not have do no harm.

    >>> stem_and_stages(2, ("stem_conv",))
    (('stem_conv',), ('stage1',), ('stage2',))
    """
    return first, *((f"stage{i + 1}",) for i in range(count))


def input_and_blocks(depth: int, scan: bool, first: tuple[str, ...]) -> Groups:
    """Makes the groups of a transformer whose `transformer.Encoder` has the name "encoder".

    Args:
      depth: Number of blocks.
      scan: True if the blocks are scanned.
      first: Paths of the parameters before the blocks.

    Raises:
      UserError: Scanned blocks: the weights of all of them are one array.

    >>> input_and_blocks(2, False, ("embedding", "cls"))
    (('embedding', 'cls'), ('encoder/block_00',), ('encoder/block_01',))
    """
    if scan:
        raise UserError(
            "layer_decay and init.freeze need layers with arrays of their own, and a scanned model has one array for "
            "all layers: set model.scan=False, or use lr_rules or optimizer.freeze"
        )
    return first, *((f"encoder/block_{i:02}",) for i in range(depth))


def layer_order(module: nn.Module) -> dict[str, Groups]:
    """Returns the groups of a model by the names of its networks; the name is "" in a model of one network.

    Args:
      module: Model, with a method `layer_order`.

    Raises:
      UserError: A model without that method.
    """
    if not hasattr(module, "layer_order"):
        raise UserError(
            f"layer_decay and init.freeze need the order of the layers, and the model {type(module).__name__} does not "
            "state it: give it a method layer_order, see docs/extending.md; or use lr_rules or optimizer.freeze"
        )
    groups = module.layer_order()
    return dict(groups) if isinstance(groups, Mapping) else {"": tuple(map(tuple, groups))}
