"""Numbers that are not known while a program is built: hyperparameters that differ between the runs of one program.

The code of models, tasks, losses and augmentations is written for numbers. It leaves work out where one is 0,
`if not rate`, which a traced number cannot answer. So `Experiment.vary`, through which all of them come, gives them
`Varied` numbers: true, as what may differ from 0, equal to no number, and for the rest the traced number itself.
Whether numbers are in their range is checked before they are traced (arguments.py lets arrays through).
"""

from collections.abc import Mapping
from typing import Any

import jax

from jaxvision.specs import Call


class Varied:
    """A traced number that differs between runs.

    Args:
      value: Scalar that is traced.

    >>> rate = Varied(jax.numpy.asarray(0.0))
    >>> bool(rate), rate == 0, float(1 - rate)
    (True, False, 1.0)
    """

    __array_ufunc__ = None  # NumPy leaves operations to this class

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
for _name in (*_BINARY, *(f"r{one}" for one in _BINARY), "neg", "lt", "le", "gt", "ge"):
    setattr(Varied, f"__{_name}__", _delegated(f"__{_name}__"))


def varied(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes of a config, traced numbers in them as `Varied`; the seed, of which no work depends, as it is.

    Args:
      changes: Values by dotted key; of augmentations a list of `specs.Call`.
    """

    def of(value: Any) -> Any:
        if isinstance(value, list):
            return [of(one) for one in value]
        if isinstance(value, Call):
            kwargs = {name: of(one) for name, one in value.kwargs.items()}
            return value._replace(args=tuple(of(one) for one in value.args), kwargs=kwargs)
        return Varied(value) if isinstance(value, jax.core.Tracer) else value

    return {key: value if key == "seed" else of(value) for key, value in changes.items()}
