"""What a trained model says about images: classes with probabilities, by name."""

from collections.abc import Iterator, Sequence
from typing import overload

import numpy as np


class Prediction:
    """The classes of one image.

    Attributes:
      logits: float32 [k].
      probabilities: float32 [k], the softmax of the logits.
      classes: Names of the k classes.
      name: Path of the image, or its position among the images of the call.
    """

    def __init__(self, logits: np.ndarray, classes: tuple[str, ...], name: str):
        self.logits, self.classes, self.name = logits, classes, name
        self.probabilities = _softmax(logits)

    @property
    def label(self) -> str:
        """Name of the most probable class."""
        return self.top(1)[0][0]

    @property
    def probability(self) -> float:
        """Probability of the most probable class."""
        return self.top(1)[0][1]

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """Returns the most probable classes, (name, probability), the most probable first.

        Args:
          k: Number of classes; all if there are fewer.

        >>> Prediction(np.log([0.25, 0.75]), ("cat", "dog"), "0").top(1)
        [('dog', 0.75)]
        """
        best = np.argsort(-self.probabilities, kind="stable")[:k]
        return [(self.classes[i], float(self.probabilities[i])) for i in best]

    def __repr__(self) -> str:
        best = ", ".join(f"{name} {probability:.1%}" for name, probability in self.top(3))
        return f"<{self.name}: {best}>"


class Predictions(Sequence[Prediction]):
    """The classes of several images, in their order.

    Attributes:
      logits: float32 [n, k].
      probabilities: float32 [n, k], the softmax of the logits.
      classes: Names of the k classes.
      names: Paths of the images, or their positions among the images of the call.
      left_out: Images that could not be read, with the reasons.
    """

    def __init__(
        self, logits: np.ndarray, classes: tuple[str, ...], names: Sequence[str], left_out: dict[str, str] | None = None
    ):
        self.logits, self.classes, self.names = logits, classes, tuple(names)
        self.probabilities = _softmax(logits)
        self.left_out = left_out or {}

    @property
    def labels(self) -> list[str]:
        """Name of the most probable class of each image."""
        return [self.classes[i] for i in self.probabilities.argmax(-1)]

    def top(self, k: int = 5) -> list[list[tuple[str, float]]]:
        """Returns for each image the most probable classes, (name, probability), the most probable first.

        Args:
          k: Number of classes; all if there are fewer.
        """
        return [one.top(k) for one in self]

    @overload
    def __getitem__(self, index: int) -> Prediction: ...

    @overload
    def __getitem__(self, index: slice) -> "Predictions": ...

    def __getitem__(self, index: int | slice) -> "Prediction | Predictions":
        if isinstance(index, slice):
            return Predictions(self.logits[index], self.classes, self.names[index])
        return Prediction(self.logits[index], self.classes, self.names[index])

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[Prediction]:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        shown = [repr(one) for one in self[:10]]
        more = [f"... {len(self) - 10:,} more"] if len(self) > 10 else []
        return "\n".join([*shown, *more]) or "<no images>"


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(-1, keepdims=True, initial=-np.inf))
    return (shifted / shifted.sum(-1, keepdims=True)).astype(np.float32)
