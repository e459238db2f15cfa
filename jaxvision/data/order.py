"""Which example comes when: an endless stream of shuffled epochs, as a pure function of seed and position."""

import functools
import threading
from collections.abc import Callable

import numpy as np

_STREAM = (0, 0, 0, 1)  # a Philox counter that the draws of host operations, which start at 0, never reach
_lock = threading.Lock()


def indices(seed: int, n: int, start: int, stop: int) -> np.ndarray:
    """The examples at positions `start` to `stop` of the stream that strings together one permutation an epoch.

    The batch at step `s` is the examples at positions `s * batch_size` to `(s + 1) * batch_size`. A batch may
    span two epochs; every run of `n` positions that starts at a multiple of `n` holds each example once.

    Args:
      seed: a non-negative int below 2**64.
      n: number of examples in the set.
      start, stop: positions, with `0 <= start <= stop`.

    Returns:
      int64 array [stop - start] of values in `[0, n)`.

    >>> indices(seed=0, n=4, start=0, stop=8).tolist()
    [3, 0, 1, 2, 1, 3, 0, 2]
    >>> indices(seed=0, n=4, start=3, stop=6).tolist()
    [2, 1, 3]
    """
    epochs = range(start // n, -(-stop // n))
    parts = [_permutation(seed, n, e)[max(start - e * n, 0) : stop - e * n] for e in epochs]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


def _permutation(seed: int, n: int, epoch: int) -> np.ndarray:
    with _lock:  # else every thread of a loader would shuffle the new epoch for itself
        return _epochs(seed, n)(epoch)


@functools.lru_cache(maxsize=64)  # a mixture reads as many streams at once as it has parts
def _epochs(seed: int, n: int) -> Callable[[int], np.ndarray]:
    """The permutations of one stream, of which the last two are kept."""

    @functools.lru_cache(maxsize=2)
    def permutation(epoch: int) -> np.ndarray:
        rng = np.random.Generator(np.random.Philox(key=[seed, epoch], counter=_STREAM))
        return rng.permutation(n)

    return permutation
