"""Numbers that are unknown while a program is built: hyperparameters that differ between the runs of one program.

The code of models, tasks, losses and augmentations is written for numbers. It skips work if one is 0, `if not rate`,
which a traced number cannot answer. So `Experiment.vary`, through which all of them pass, gives them `Varied` numbers:
true, since they may differ from 0, equal to no number, and otherwise the traced number itself.
Ranges are checked before numbers are traced (arguments.py accepts arrays).
"""

from collections.abc import Mapping
from typing import Any

import jax

from jaxvision.specs import Call


class Varied:
    """A traced number that differs between runs.

    Args:
      value: Traced scalar, float or int [].

    >>> rate = Varied(jax.numpy.asarray(0.0))
    >>> bool(rate), rate == 0, float(1 - rate)
    (True, False, 1.0)
    """

    __array_ufunc__ = None  # so that NumPy uses the operators of this class

    def __init__(self, value: jax.Array):
        self.value = value
        self.shape, self.dtype, self.ndim = value.shape, value.dtype, value.ndim

    def __jax_array__(self) -> jax.Array:
        return self.value

    def __bool__(self) -> bool:
        return True

    def __repr__(self) -> str:
        return f"Varied({self.value!r})"


def _delegated(name: str) -> Any:
    def call(self: Varied, *others: Any) -> Any:
        return getattr(self.value, name)(*(other.value if isinstance(other, Varied) else other for other in others))

    return call


_BINARY = ("add", "sub", "mul", "truediv", "pow")
for _name in (*_BINARY, *(f"r{operator}" for operator in _BINARY), "neg", "lt", "le", "gt", "ge"):
    setattr(Varied, f"__{_name}__", _delegated(f"__{_name}__"))


def varied(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Wraps the traced numbers among the changes of a config in `Varied`, except the seed, which decides no work.

    Args:
      changes: Value by dotted key; the value of an augmentation is a list of `specs.Call`.

    >>> varied({"seed": 1, "optimizer.learning_rate": 0.1})
    {'seed': 1, 'optimizer.learning_rate': 0.1}
    """

    def wrap(value: Any) -> Any:
        if isinstance(value, list):
            return [wrap(item) for item in value]
        if isinstance(value, Call):
            kwargs = {name: wrap(argument) for name, argument in value.kwargs.items()}
            return value._replace(args=tuple(wrap(argument) for argument in value.args), kwargs=kwargs)
        return Varied(value) if isinstance(value, jax.core.Tracer) else value

    return {key: value if key == "seed" else wrap(value) for key, value in changes.items()}
