"""Several classifiers as one: the mean of their probabilities, or of their logits.

Krizhevsky, Sutskever and Hinton 2012, "ImageNet classification with deep convolutional neural networks", sec. 6.
"""

from collections.abc import Sequence

import numpy as np

from jaxvision.errors import unknown

MEANS = ("probabilities", "logits")


def ensemble_log_probabilities(logits: np.ndarray, mean: str = "probabilities") -> np.ndarray:
    """Computes the logarithms of the probabilities of an ensemble.

    The mean of the probabilities has a cross entropy that is at most the mean of those of the members (Jensen's
    inequality), and so has the mean of the logits, whose softmax is the geometric mean of the probabilities, scaled to
    a sum of 1.

    Args:
      logits: Logits of m members, float [m, n, k].
      mean: Kind of the mean, one of `MEANS`.

    Returns:
      float64 [n, k].

    Raises:
      UserError: The mean is unknown.

    >>> p = ensemble_log_probabilities(np.log([[[0.9, 0.1]], [[0.5, 0.5]]]))
    >>> np.exp(p).round(6).tolist()
    [[0.7, 0.3]]
    """
    if mean not in MEANS:
        raise unknown("mean of an ensemble", mean, MEANS)
    from scipy.special import log_softmax, logsumexp  # late: SciPy takes half a second to import

    logits = logits.astype(np.float64)
    if mean == "logits":
        return log_softmax(logits.mean(0), axis=-1)
    return logsumexp(log_softmax(logits, axis=-1), axis=0) - np.log(len(logits))


def judge(log_probabilities: np.ndarray, labels: np.ndarray, topk: Sequence[int] = (1, 5)) -> dict[str, float]:
    """Computes accuracies and the cross entropy, as the evaluator `classify` does.

    Args:
      log_probabilities: Logarithms of probabilities, float [n, k].
      labels: Labels, int [n].
      topk: Numbers of classes of the metrics `topK`; those above k are left out.

    Returns:
      `top1`, ..., shares in [0, 1]; `loss`, the mean negative log likelihood in nats; `examples`, n. Of equal
      probabilities the first class counts as the largest, and NaN is never right.

    >>> judge(np.log([[0.7, 0.3], [0.6, 0.4]]), np.array([0, 1]), (1,))["top1"]
    0.5
    """
    n, k = log_probabilities.shape
    of_label = log_probabilities[np.arange(n), labels]
    earlier = np.arange(k) < labels[:, None]
    before = (log_probabilities > of_label[:, None]) | ((log_probabilities == of_label[:, None]) & earlier)
    ranks = np.where(np.isnan(log_probabilities).any(1), k, before.sum(1))
    shares = {f"top{most}": float(np.mean(ranks < most)) for most in topk if most <= k}
    return shares | {"loss": float(-of_label.mean()), "examples": float(n)}
