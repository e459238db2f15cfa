"""Uses of JAX's coordination service that are not public: its client, and a clean exit if the service is gone.

The client of the service aborts its process (SIGABRT, a page of traces) as soon as process 0, which runs the service,
is gone. It can call a function instead, but `jax.distributed.initialize` does not pass one on. In jaxlib up to 0.12 the
status that the function is called with cannot be converted to Python, and std::bad_cast terminates the process, so
C++'s terminate handler is replaced too. All of this is optional: without it the process is aborted as before.
"""

import contextlib
import ctypes
import functools
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from jaxvision import signals
from jaxvision.exits import EXIT_HUNG, EXIT_PREEMPTED
from jaxvision.parallel.peers import lost

_kept: list[Any] = []  # references to functions that C++ calls, so that they are not freed
_joining = False


class Joined(NamedTuple):
    """The job that this process has joined.

    Attributes:
      client: Client of the coordination service, with a key-value store.
      process, count: Number of this process, and number of all processes.
      address: Address of process 0; None if it is unknown.
    """

    client: Any
    process: int
    count: int  # type: ignore[assignment]  # hides tuple.count
    address: str | None = None


def joined() -> Joined | None:
    """Returns the job of this process, or None for a single process."""
    from jax._src import distributed

    state = distributed.global_state
    if state.num_processes < 2:
        return None
    return Joined(state.client, state.process_id, state.num_processes, getattr(state, "coordinator_address", None))


@contextlib.contextmanager
def orderly() -> Iterator[None]:
    """Makes clients made inside the `with` block exit with one line and EXIT_PREEMPTED if the service is gone."""
    try:
        from jax._src import distributed

        library, make = distributed._jax, distributed._jax.get_distributed_runtime_client
        jax.config.update("jax_enable_preemption_service", False)  # it logs errors, and is not used here
    except (ImportError, AttributeError):
        yield
        return
    global _joining
    _terminate_orderly()
    _joining = True
    library.get_distributed_runtime_client = functools.partial(make, missed_heartbeat_callback=_gone)
    try:
        yield
    except RuntimeError:
        if joined():  # otherwise JAX was already in use and did not try to join
            _gone()
        raise
    finally:
        _joining = False
        library.get_distributed_runtime_client = make


def _gone(*_: object) -> None:
    if _joining and (job := joined()):
        where = f"process 0 should answer at {job.address}" if job.address else "process 0 did not answer"
        signals.leave(
            EXIT_HUNG,
            f"process {job.process} has waited too long for the {job.count} processes of the job: {where}. Check that "
            "all of them were started and can reach it; then run the same command again.",
        )
    status = signals.ended()
    if status is None:
        signals.leave(EXIT_PREEMPTED, lost(0))
    else:
        signals.leave(status)


def _terminate_orderly() -> None:
    """Calls `_gone` for an uncaught std::bad_cast; anything else goes to the previous handler."""
    if sys.platform != "linux" or _kept:
        return
    try:
        cpp = ctypes.CDLL("libstdc++.so.6")
        set_terminate, current_type = cpp["_ZSt13set_terminatePFvvE"], cpp["__cxa_current_exception_type"]
    except (OSError, AttributeError):
        return
    set_terminate.restype = current_type.restype = ctypes.c_void_p
    before: list[int | None] = []

    @ctypes.CFUNCTYPE(None)
    def terminate() -> None:
        kind = current_type()
        # A std::type_info holds a pointer to its table of functions, then a pointer to its name.
        name = ctypes.c_char_p.from_address(kind + ctypes.sizeof(ctypes.c_void_p)).value if kind else None
        if name == b"St8bad_cast" and joined():
            _gone()
        if before[0]:
            ctypes.CFUNCTYPE(None)(before[0])()

    _kept.append(terminate)
    before.append(set_terminate(terminate))
