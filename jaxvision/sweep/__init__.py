"""Sweeps: a space of configs, a search over it, and the controller that runs its trials."""

from jaxvision.sweep.space import choice, grid, integers, log_uniform, uniform, when
from jaxvision.sweep.spec import Sweep

__all__ = ["Sweep", "choice", "grid", "integers", "log_uniform", "uniform", "when"]
