"""Processes that take turns at the same work, so that other programs on the machine slow all of them alike."""

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Build = Callable[[], Callable[[int], int]]


class Turn(NamedTuple):
    """The speed of one turn.

    Attributes:
      per_second: Examples per second.
      per_cpu_second: Examples per second of CPU time, of the process and the processes that it started and waited for.
    """

    per_second: float
    per_cpu_second: float


def take_turns(builds: Mapping[str, Build], examples: int, rounds: int) -> dict[str, list[Turn]]:
    """Measures every entry in `rounds` turns; a round is one turn of each, in an order that rotates.

    Args:
      builds: Picklable functions, each called in its own process, that return `run(examples) -> number done`; this may
        be a few more, to end with a whole batch.
      examples: Number of examples in one turn.
      rounds: Number of rounds.
    """
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for name, build in builds.items():
        pipes[name], theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, build))
        process.start()
        theirs.close()  # so that the pipe ends if the process dies
        processes.append(process)
        _turn(name, pipes[name], max(1, examples // 4))  # a warm-up that does not count: compiles, fills caches
    turns: dict[str, list[Turn]] = {name: [] for name in builds}
    order = list(builds)
    for _ in range(rounds):
        for name in order:
            turns[name].append(_turn(name, pipes[name], examples))
        order.append(order.pop(0))
    for pipe in pipes.values():
        pipe.close()
    for process in processes:
        process.join()
    return turns


def _turn(name: str, pipe: Any, examples: int) -> Turn:
    try:
        pipe.send(examples)
        return pipe.recv()
    except (EOFError, OSError):
        sys.exit(f"{name} failed, for the reason above")


def _serve(pipe: Any, build: Build) -> None:
    run = build()
    while True:
        try:
            examples = pipe.recv()
        except EOFError:
            return
        wall, cpu = time.perf_counter(), _cpu_seconds()
        done = run(examples)
        pipe.send(Turn(done / (time.perf_counter() - wall), done / (_cpu_seconds() - cpu)))


def _cpu_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)
