"""Numbers that are not known while a program is built: hyperparameters that differ between the runs of one program.

Whoever checks a number or leaves work out where it is 0 asks `known` first, so that `jax.vmap` over hyperparameters
traces the code that a single run executes.
"""

from typing import Any

import jax


def known(*values: Any) -> bool:
    """True where no value is a traced array, so that all may be compared and branched on.

    >>> known(0.1, None)
    True
    >>> seen = []
    >>> _ = jax.vmap(lambda rate: seen.append(known(rate)) or rate)(jax.numpy.ones(2))
    >>> seen
    [False]
    """
    return not any(isinstance(value, jax.core.Tracer) for value in values)
