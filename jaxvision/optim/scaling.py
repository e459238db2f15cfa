"""How a learning rate grows with the batch, for configs that are given for several batch sizes."""

import math


def linear_scaling(rate: float, batch_size: int) -> float:
    """`rate` is that of a batch of 256 examples (Goyal et al. 2017, sec. 2.1; SimCLR: 0.3, Chen et al. 2020, sec. 2.2).

    >>> linear_scaling(0.3, 4096)
    4.8
    """
    return rate * batch_size / 256


def sqrt_scaling(rate: float, batch_size: int) -> float:
    """`rate` is that of one example (Krizhevsky 2014; SimCLR: 0.075, Chen et al. 2020, app. B.1).

    It is larger than SimCLR's linear rule for batches below 4096, where it trains better than that.

    >>> sqrt_scaling(0.075, 4096)
    4.8
    """
    return rate * math.sqrt(batch_size)
