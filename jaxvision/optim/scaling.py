"""How a learning rate grows with the batch, for configs that are given for several batch sizes."""

import math


def linear_scaling(rate: float, batch_size: int) -> float:
    """Returns a learning rate in proportion to the batch size (Goyal et al. 2017, sec. 2.1).

    Args:
      rate: Learning rate of a batch of 256 examples. SimCLR: 0.3 (Chen et al. 2020, sec. 2.2).
      batch_size: Number of examples in the batch.

    >>> linear_scaling(0.3, 4096)
    4.8
    """
    return rate * batch_size / 256


def sqrt_scaling(rate: float, batch_size: int) -> float:
    """Returns a learning rate in proportion to the square root of the batch size (Krizhevsky 2014).

    For batches below 4096 it is larger than SimCLR's linear rule, and there SimCLR trains better with it.

    Args:
      rate: Learning rate of a batch of one example. SimCLR: 0.075 (Chen et al. 2020, app. B.1).
      batch_size: Number of examples in the batch.

    >>> sqrt_scaling(0.075, 4096)
    4.8
    """
    return rate * math.sqrt(batch_size)
