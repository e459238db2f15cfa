"""The difficulty of `shapes`: top-1 on its validation split of classifiers that see only pixels.

    python benchmarks/shapes_difficulty.py

k-NN by Euclidean distance, and softmax regression fitted by L-BFGS with a small L2 penalty, on 30,000
training images of 32 pixels; both must stay under 45 %. docs/reproducing.md has the accuracy of a small ResNet
on the same images, and the command for it.
"""

import argparse

import numpy as np
from scipy.optimize import minimize

from jaxvision.data import resident
from jaxvision.data.sources import open_source


def load(split: str, sizes: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Loads a split of `shapes`.

    Args:
      split: Name of the split.
      sizes: Options of the set: the size of its images and splits.

    Returns:
      Pixels, float32 [n, d] in [-1, 1], and labels, int [n].
    """
    arrays = resident.load_arrays(open_source("shapes", split, options=sizes, fields=("image", "label")), "decode")
    return arrays["image"].reshape(len(arrays["image"]), -1).astype(np.float32) / 127.5 - 1, arrays["label"]


def knn(train: tuple, val: tuple, k: int) -> float:
    """Returns the accuracy of the majority of the k nearest neighbours; ties go to the smaller class.

    Args:
      train: Pixels [n, d] and labels [n] of the training images.
      val: Pixels [m, d] and labels [m] of the validation images.
      k: Number of neighbours.
    """
    (x, y), (queries, truth) = train, val
    norms, right = (x**2).sum(1), 0
    for start in range(0, len(queries), 500):
        distance = norms - 2 * queries[start : start + 500] @ x.T
        votes = y[np.argpartition(distance, k, axis=1)[:, :k]]
        guesses = np.array([np.bincount(v, minlength=10).argmax() for v in votes])
        right += int((guesses == truth[start : start + 500]).sum())
    return right / len(truth)


def softmax_regression(train: tuple, val: tuple, penalty: float = 1e-4, iterations: int = 200) -> tuple[float, float]:
    """Fits a linear classifier and returns its training and its validation accuracy.

    Args:
      train: Pixels [n, d] and labels [n] of the training images.
      val: Pixels [m, d] and labels [m] of the validation images.
      penalty: Weight of the L2 penalty.
      iterations: Largest number of iterations of L-BFGS.
    """
    x, y = train
    targets = np.eye(10, dtype=np.float32)[y]

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        w = flat.reshape(-1, 10).astype(np.float32)
        logits = x @ w
        logits -= logits.max(1, keepdims=True)
        log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        gradient = x.T @ (np.exp(log_p) - targets) / len(x) + penalty * w
        value = -(targets * log_p).sum() / len(x) + 0.5 * penalty * (w**2).sum()
        return float(value), gradient.astype(np.float64).ravel()

    best = minimize(loss, np.zeros(x.shape[1] * 10), jac=True, method="L-BFGS-B", options={"maxiter": iterations})
    w = best.x.reshape(-1, 10).astype(np.float32)
    return tuple(float(np.mean((inputs @ w).argmax(1) == labels)) for inputs, labels in (train, val))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=30_000)
    parser.add_argument("--train", type=int, default=60_000, help="size of the training split that is rendered")
    args = parser.parse_args()
    sizes = {"image_size": 32, "train": args.train, "validation": 5_000, "test": 5_000}
    train, val = load(f"train[:{args.examples}]", sizes), load("validation", sizes)
    for k in (1, 5, 20):
        print(f"k-NN on pixels, k={k}: {knn(train, val, k):.1%}")
    train_accuracy, accuracy = softmax_regression(train, val)
    print(f"softmax regression on pixels: {accuracy:.1%} ({train_accuracy:.1%} on its training set)")


if __name__ == "__main__":
    main()
