"""Applies a function to a stream of items ahead of need, in threads or processes; results come in order."""

import collections
import contextlib
import multiprocessing
import queue
import signal
import traceback
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from multiprocessing.connection import Connection
from multiprocessing.util import Finalize
from typing import Any

from jaxvision.arguments import is_whole
from jaxvision.errors import UserError

Task = Callable[[Any], Any]

_SECONDS_TO_END = 10


def map_ordered(
    task: Task, items: Iterator, *, threads: int, processes: int = 0, ahead: int = 0
) -> Generator[Any, None, None]:
    """Yields `task(item)` for every item, in the order of `items`.

    Args:
      task: Function of an item. It must be thread-safe; if there are processes, it must pickle, as must items and
        results.
      items: Items.
      threads: Number of threads that call it; with 0 the calling thread does when a result is asked for.
      processes: Number of processes that call it instead of threads.
      ahead: Number of items that are in work, or done and waiting; at least one per worker.

    Raises:
      UserError: `threads` or `processes` is no count.
      RuntimeError: A worker process died, or met an error other than UserError, which is raised unchanged.

    >>> list(map_ordered(abs, iter([-3, 2, -1]), threads=2))
    [3, 2, 1]
    """
    for name, value in {"threads": threads, "processes": processes}.items():
        if not is_whole(value, least=0):
            raise UserError(f"{name} must be a whole number of at least 0, not {value!r}")
    return _ordered(task, items, threads, processes, ahead)


def _ordered(task: Task, items: Iterator, threads: int, processes: int, ahead: int) -> Generator[Any, None, None]:
    if not threads and not processes:
        yield from map(task, items)
        return
    with contextlib.ExitStack() as stack:
        if processes:
            task = stack.enter_context(contextlib.closing(_Processes(task, processes)))
        executor = ThreadPoolExecutor(processes or threads, thread_name_prefix="jaxvision-data")
        stack.callback(executor.shutdown, cancel_futures=True)
        pending: collections.deque[Future] = collections.deque()
        for item in items:
            pending.append(executor.submit(task, item))
            if len(pending) > max(ahead, processes or threads):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


class _Processes:
    """A task in several processes. A calling thread waits for an idle process, sends it the item and gets the result.

    A process ends when the other end of its pipe is closed. The operating system closes it however the main process
    ends, so no process is left behind, not even after SIGKILL.
    """

    def __init__(self, task: Task, count: int):
        # Not forked: JAX has threads, and a fork would copy their locks in whatever state they are.
        context = multiprocessing.get_context("spawn")
        self._idle: queue.SimpleQueue[Connection] = queue.SimpleQueue()
        self._pipes: list[Connection] = []
        self._processes = []
        for _ in range(count):
            pipe, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, task), name="jaxvision-data", daemon=True)
            process.start()
            theirs.close()  # else the pipe would not close with the process
            self._idle.put(pipe)
            self._pipes.append(pipe)
            self._processes.append(process)
        self._hang_up = Finalize(self, _close, (self._pipes,), exitpriority=1)  # at exit, before processes are joined

    def __call__(self, item: Any) -> Any:
        pipe = self._idle.get()
        try:
            pipe.send(item)
            result, error = pipe.recv()
        except (EOFError, OSError):
            raise RuntimeError("a worker process of the data loader died; did the machine run out of memory?") from None
        finally:
            self._idle.put(pipe)
        if error is not None:
            raise error
        return result

    def close(self) -> None:
        self._hang_up()
        for process in self._processes:
            process.join(_SECONDS_TO_END)
            process.kill()
            process.join()


def _close(pipes: list[Connection]) -> None:
    for pipe in pipes:
        pipe.close()


def _serve(pipe: Connection, task: Task) -> None:
    """Runs the loop of a worker process."""
    for kind in (signal.SIGINT, signal.SIGTERM):  # sent to the whole group, but the main process decides when to end
        signal.signal(kind, signal.SIG_IGN)
    with contextlib.suppress(EOFError, OSError):  # the main process has closed the pipe, or has ended
        while True:
            item = pipe.recv()
            answer: tuple[Any, Exception | None]
            try:
                answer = task(item), None
            except UserError as error:
                answer = None, error
            except Exception:
                answer = None, RuntimeError(f"in a worker process of the data loader:\n{traceback.format_exc()}")
            pipe.send(answer)
