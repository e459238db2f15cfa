"""Processes that take turns at the same work, so that what else runs on the machine falls on all of them alike."""

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

Build = Callable[[], Callable[[int], int]]


class Turn(NamedTuple):
    """Examples a second, and a second of CPU time of the process and of those it started and has waited for."""

    per_second: float
    per_cpu_second: float


def take_turns(builds: Mapping[str, Build], examples: int, rounds: int) -> dict[str, list[Turn]]:
    """Measures every entry in `rounds` turns; a round is one turn of each, in an order that rotates.

    Args:
      builds: picklable functions, called in a process of their own, which return `run(examples) -> done`; it may do
        a few examples more, to end on a whole batch.
      examples: of one turn.
    """
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for name, build in builds.items():
        pipes[name], theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, build))
        process.start()
        theirs.close()  # a process that dies then ends the pipe
        processes.append(process)
        _turn(name, pipes[name], max(1, examples // 4))  # does not count: compiles, fills caches
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
