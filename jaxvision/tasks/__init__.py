"""What is learned: one file a task.

task.py         the contract that every task fills and the rest of the engine relies on
supervised.py   predict the label of an image
"""

from collections.abc import Callable

from jaxvision.errors import unknown
from jaxvision.tasks import supervised
from jaxvision.tasks.task import Task

TASKS: dict[str, Callable[..., Task]] = {"supervised": supervised.make}


def get(name: str) -> Callable[..., Task]:
    """The factory of the task of that name; UserError otherwise."""
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]
