"""Schedules, and optimizers as optax chains."""

from jaxvision.optim.optimizers import Optimizer, make_optimizer

__all__ = ["Optimizer", "make_optimizer"]
