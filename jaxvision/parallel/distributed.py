"""The processes of a job: joining them, and checking that they agree."""

import atexit
import contextlib
import hashlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxvision.errors import UserError
from jaxvision.exits import EXIT_FAILED
from jaxvision.parallel import coordination, peers

PyTree = Any

# JAX aborts a process that has not heard of another one for so long; `peers` ends it cleanly well before that.
HEARTBEAT_SECONDS = 100


def initialize(
    coordinator_address: str | None = None, num_processes: int | None = None, process_id: int | None = None
) -> None:
    """Joins the processes of a job; returns at once if the job is a single process.

    Missing values come from JAX_COORDINATOR_ADDRESS ("host:port" of process 0), JAX_NUM_PROCESSES
    and JAX_PROCESS_ID, then from the cluster if JAX knows it: SLURM, Open MPI, Cloud TPU, Kubernetes.
    Under SLURM and Open MPI a process on GPUs gets the one GPU of its local rank, so start one task
    for each, or name others in JAX_LOCAL_DEVICE_IDS. Call it before anything that touches a device.

    Args:
      coordinator_address: Address of process 0, "host:port".
      num_processes: Number of processes.
      process_id: Number of this process, from 0.

    Raises:
      UserError: If the given values are incomplete or wrong.
      RuntimeError: If there are several processes, but JAX is already in use.
    """
    if jax.distributed.is_initialized():
        return
    coordinator_address = coordinator_address or os.environ.get("JAX_COORDINATOR_ADDRESS")
    num_processes = _from_environment("JAX_NUM_PROCESSES") if num_processes is None else num_processes
    process_id = _from_environment("JAX_PROCESS_ID") if process_id is None else process_id
    configured = (coordinator_address, num_processes, process_id) != (None, None, None)
    try:
        with coordination.orderly():
            jax.distributed.initialize(
                coordinator_address, num_processes, process_id, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
            )
    except ValueError as error:
        if configured:
            raise UserError(
                f"cannot join the job: {error} Given: coordinator_address={coordinator_address!r}, "
                f"num_processes={num_processes}, process_id={process_id}"
            ) from None
        if "coordinator_address" not in str(error):
            raise
        # No address given and no cluster found: one process.
    except RuntimeError:
        # JAX is in use already, as in a notebook: fine for one process, wrong for several.
        tasks = max(_from_environment(name) or 1 for name in ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE"))
        if configured or tasks > 1:
            raise
    if joined := coordination.joined():
        peers.start(peers.CoordinationStore(joined.client), joined.process, joined.count)
        atexit.register(peers.stop)  # before JAX's own, which was registered before


def _from_environment(name: str) -> int | None:
    text = os.environ.get(name)
    if text is None:
        return None
    if not text.isdecimal():
        raise UserError(f"the environment variable {name} must be a whole number, not {text!r}")
    return int(text)


def is_main() -> bool:
    """True in the process that writes logs and records."""
    return jax.process_index() == 0


def assert_equal_across_processes(value: object, name: str) -> None:
    """Checks that every process holds the same value; every process must call it.

    JAX silently accepts values that differ under a replicated sharding, and the copies of the
    model then drift apart.

    Args:
      value: Object that its `repr` identifies, such as a step or the text of a config.
      name: Name of the value, for the message.

    Raises:
      UserError: In every process, with the processes that differ from process 0.
    """
    if jax.process_count() == 1:
        return
    digest = np.frombuffer(hashlib.sha256(repr(value).encode()).digest(), np.uint8)
    digests = multihost_utils.process_allgather(digest)  # processes 32
    different = [p for p in range(jax.process_count()) if not np.array_equal(digests[p], digests[0])]
    if different:
        raise UserError(f"{name} differs between processes: {different} against process 0. Here it is {value!r}")


def text_of_process_0(text: str) -> str:
    """Sends the text of process 0 to all; every process must call it.

    Args:
      text: Text of this process; only that of process 0 matters.

    Returns:
      The text of process 0.
    """
    if jax.process_count() == 1:
        return text
    mine = np.frombuffer(text.encode(), np.uint8)
    length = int(multihost_utils.broadcast_one_to_all(np.int32(len(mine))))
    padded = np.resize(mine, length) if len(mine) else np.zeros(length, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(padded)).astype(np.uint8).tobytes().decode()


@contextlib.contextmanager
def together(what: str) -> Iterator[None]:
    """Makes all processes stop if one fails inside the `with` block.

    Every process must enter the block, and none may wait for others in it: a process that fails leaves it at once.

    Args:
      what: Name of the work in the block, for the message.

    Raises:
      UserError: In processes without an error, if others have one. Those raise their own exception.
    """
    if jax.process_count() == 1:
        yield
        return
    error = None
    try:
        yield
    except Exception as caught:
        error = caught
    mine = 0 if error is None else getattr(error, "status", EXIT_FAILED)
    statuses = multihost_utils.process_allgather(np.array(mine))
    if error is not None:
        raise error
    if statuses.any():
        failed = ", ".join(map(str, np.flatnonzero(statuses)))
        raise UserError(f"{what} failed in other processes ({failed}): see their messages", int(statuses.max()))


def any_process(flag: bool) -> bool:
    """Returns True in every process if the flag is set in any; every process must call it.

    Args:
      flag: Flag of this process.
    """
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.array(flag)).any())


def gather_numbers(mine: Sequence[int]) -> list[list[int]]:
    """Gathers integers of 64 bits from each process; every process must call it.

    Args:
      mine: Integers of this process, any number of them.

    Returns:
      The integers of each process, by its number.
    """
    if jax.process_count() == 1:
        return [list(mine)]
    lengths = multihost_utils.process_allgather(np.int32(len(mine)))
    if not lengths.any():
        return [[] for _ in lengths]
    padded = np.zeros(lengths.max(), np.int64)
    padded[: len(mine)] = mine
    # Sent as bytes, since JAX would convert them to int32.
    rows = np.asarray(multihost_utils.process_allgather(padded.view(np.uint8)), np.uint8)
    return [row.view(np.int64)[:length].tolist() for row, length in zip(rows, lengths)]


def gather(tree: PyTree) -> PyTree:
    """Gathers global arrays, whole, on every process; every process must call it.

    Args:
      tree: Tree of global arrays, of any shape.

    Returns:
      The same tree with NumPy arrays.
    """
    return multihost_utils.process_allgather(tree, tiled=True)
