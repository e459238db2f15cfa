"""Search with shared weights: every architecture uses a part of one set of arrays (Pham et al. 2018, ENAS).

Run:     python experiments/architecture_search/shared_weights.py
Source:  Pham et al. 2018, "Efficient neural architecture search via parameter sharing", arXiv 1802.03268, sec. 2.2

Two phases take turns. In one, the shared arrays are trained on batches, each with an architecture drawn from the policy
of `reinforce`. In the other, the policy learns from the accuracy of drawn architectures on batches of validation
images, while the arrays stay. At the end the arrays are frozen, and architectures drawn from the policy are compared
with architectures drawn uniformly, on new images: the arrays improve during the search anyway, so a rising reward alone
would show nothing.
"""

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxvision.analysis.statistics import paired_difference
from jaxvision.analysis.words import points
from jaxvision.commands.study import sibling
from jaxvision.sweep.categorical import reinforce

net = sibling(__file__, "supernet")
LEARNING_RATE, DECAY = 0.05, 0.9  # of the policy
REWARDS, IMAGES = 10, 256  # steps of the policy in each round, and images that a reward is the accuracy on
Images = tuple[np.ndarray, np.ndarray]  # float32 [n, h, w, 3] and int32 [n]


class Found(NamedTuple):
    """What a search ends with.

    Attributes:
      arrays: Shared arrays.
      policy: Policy that has learned.
      rewards: Reward of each step of the policy.
    """

    arrays: Any
    policy: reinforce.Policy
    rewards: list[float]


def search(
    train: Images, validation: Images, *, seed: int = 0, rounds: int = 40, steps: int = 50, **sizes: int
) -> Found:
    """Searches with shared weights.

    Args:
      train: Images and labels that train the arrays.
      validation: Images and labels whose accuracy rewards the policy.
      seed: Seed of everything.
      rounds: Number of times that the two phases take turns.
      steps: Number of steps of the arrays in each round; the policy takes `REWARDS` steps.
      **sizes: Sizes of the network, see `supernet.init`.
    """
    space, arrays = net.space(sizes.get("layers", net.LAYERS)), net.init(jax.random.key(seed), **sizes)
    policy, state, rewards, drawn = reinforce.uniform(space), net.ADAM.init(arrays), [], 0
    training, rewarding = net.batches(train, seed), net.batches(validation, seed + 1, IMAGES)
    for _ in range(rounds):
        for _ in range(steps):
            point = reinforce.draw(space, policy.logits, seed, drawn)
            arrays, state = net.step(arrays, state, net.chosen(point), *next(training))
            drawn += 1
        for _ in range(REWARDS):
            point = reinforce.draw(space, policy.logits, seed, drawn)
            rewards.append(float(net.accuracy(arrays, net.chosen(point), *next(rewarding))))
            policy = reinforce.update(space, policy, policy.logits, point, rewards[-1], LEARNING_RATE, DECAY)
            drawn += 1
    return Found(arrays, policy, rewards)


def mean_accuracy(found: Found, logits: reinforce.Logits, images: Images, *, seed: int = 0, times: int = 64) -> float:
    """Returns the mean accuracy of drawn architectures, with the arrays that the search ended with.

    Args:
      found: What the search ended with.
      logits: Parameters of the policy to draw from.
      images: Images and labels that the search has not seen.
      seed: Seed of the draws.
      times: Number of architectures.
    """
    space = net.space(len(logits))
    drawn = [reinforce.draw(space, logits, seed, number) for number in range(times)]
    return float(np.mean([net.accuracy(found.arrays, net.chosen(point), *images) for point in drawn]))


def main() -> None:
    """Searches with five seeds, and prints what the policy gains over uniform draws."""
    train, validation, test = net.load()
    learned: list[float] = []
    uniform: list[float] = []
    for seed in range(5):
        found = search(train, validation, seed=seed)
        learned.append(mean_accuracy(found, found.policy.logits, test))
        uniform.append(mean_accuracy(found, reinforce.uniform(net.space()).logits, test))
        chances = [
            dict(zip(net.OPS, reinforce.probabilities(x).round(2).tolist())) for x in found.policy.logits.values()
        ]
        print(f"seed {seed}: policy {learned[-1]:.3f}, uniform {uniform[-1]:.3f}; {chances}", flush=True)
    print(f"policy minus uniform: {points(paired_difference(learned, uniform))}")


if __name__ == "__main__":
    main()
