"""Which example comes when: an endless stream of shuffled epochs, a pure function of seed and position."""

import functools
import threading
from collections.abc import Callable

import numpy as np

_STREAM = (0, 0, 0, 1)  # a Philox counter; draws of host operations start at 0 and never reach it
_lock = threading.Lock()


def indices(seed: int, n: int, start: int, stop: int) -> np.ndarray:
    """Returns the examples at positions `start` to `stop` of a stream of permutations, one per epoch.

    The batch of step `s` is the examples at positions `s * batch_size` to `(s + 1) * batch_size`. A batch may span two
    epochs; every `n` positions that start at a multiple of `n` hold each example once.

    Args:
      seed: Seed, not negative and below 2**64.
      n: Number of examples in the set.
      start: First position, at least 0.
      stop: Position after the last, at least `start`.

    Returns:
      Indices in [0, n), int64 [stop - start].

    >>> indices(seed=0, n=4, start=0, stop=8).tolist()
    [3, 0, 1, 2, 1, 3, 0, 2]
    >>> indices(seed=0, n=4, start=3, stop=6).tolist()
    [2, 1, 3]
    """
    epochs = range(start // n, -(-stop // n))
    parts = [_permutation(seed, n, e)[max(start - e * n, 0) : stop - e * n] for e in epochs]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _permutation(seed: int, n: int, epoch: int) -> np.ndarray:
    with _lock:  # else every thread of a loader would shuffle each new epoch
        return _epochs(seed, n)(epoch)


@functools.lru_cache(maxsize=64)  # a mixture reads one stream per part
def _epochs(seed: int, n: int) -> Callable[[int], np.ndarray]:
    """Returns the function from epoch to permutation of one stream, which caches the last two."""

    @functools.lru_cache(maxsize=2)
    def permutation(epoch: int) -> np.ndarray:
        rng = np.random.Generator(np.random.Philox(key=[seed, epoch], counter=_STREAM))
        return rng.permutation(n)

    return permutation
