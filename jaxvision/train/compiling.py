"""Measures the time that JAX spends compiling programs in this process."""

import jax.monitoring

_EVENT = "/jax/core/compile/backend_compile_duration"  # of XLA, or of reading the program that it compiled before
_spent: list[float] = []  # the sum, once the listener is registered


def seconds() -> float:
    """Returns the seconds spent compiling since the first call, which returns 0."""
    if not _spent:
        _spent.append(0.0)
        jax.monitoring.register_event_duration_secs_listener(_listen)
    return _spent[0]


def _listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
    if event == _EVENT:
        _spent[0] += duration_secs
