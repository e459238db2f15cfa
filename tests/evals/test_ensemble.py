"""Several classifiers as one."""

import jax
import numpy as np
import pytest
from scipy.special import log_softmax

from jaxvision.errors import UserError
from jaxvision.evals.classify import rank
from jaxvision.evals.ensemble import MEANS, ensemble_log_probabilities, judge


@pytest.fixture(scope="module")
def logits():
    return np.random.default_rng(0).normal(0, 3, (5, 40, 7)).astype(np.float32), np.random.default_rng(1).integers(
        0, 7, 40
    )


@pytest.mark.parametrize("mean", MEANS)
def test_the_loss_is_at_most_the_mean_of_the_losses(logits, mean):
    scores, labels = logits
    losses = [judge(log_softmax(one, axis=-1), labels)["loss"] for one in scores]
    assert judge(ensemble_log_probabilities(scores, mean), labels)["loss"] < np.mean(losses)
    same = np.stack([scores[0]] * 3)
    assert judge(ensemble_log_probabilities(same, mean), labels)["loss"] == pytest.approx(losses[0])


def test_the_means_are_those_of_probabilities_and_of_logits(logits):
    scores, labels = logits
    p = np.asarray(jax.nn.softmax(scores, axis=-1)).mean(0)
    np.testing.assert_allclose(np.exp(ensemble_log_probabilities(scores)), p, rtol=1e-4)
    np.testing.assert_allclose(
        np.exp(ensemble_log_probabilities(scores, "logits")), jax.nn.softmax(scores.mean(0)), rtol=1e-4
    )
    assert judge(ensemble_log_probabilities(scores), labels)["top1"] == np.mean(p.argmax(1) == labels)


def test_a_confident_mistake_does_not_overflow():
    log_p = ensemble_log_probabilities(np.array([[[1000.0, 0.0]], [[900.0, 0.0]]]))
    assert log_p[0].tolist() == [0.0, -900.0 - np.log(2)]


def test_ties_and_nan_count_as_in_classify():
    scores = np.array([[0.5, 0.5, 0.5], [np.nan, 9.0, 0.0], [0.0, 2.0, 2.0]])
    labels = np.array([1, 1, 2])
    ours = [judge(scores, labels, (k,))[f"top{k}"] for k in (1, 2, 3)]
    assert ours == [float(np.mean(np.asarray(rank(scores, labels)) < k)) for k in (1, 2, 3)]


def test_an_unknown_mean(logits):
    with pytest.raises(UserError, match="unknown mean of an ensemble 'median'"):
        ensemble_log_probabilities(logits[0], "median")
