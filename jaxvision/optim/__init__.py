"""Schedules, and optimizers as optax chains."""

from jaxvision.optim.optimizers import Optimizer, make

__all__ = ["Optimizer", "make"]
