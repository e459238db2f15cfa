"""What is learned: one file a task.

task.py         the contract that every task fills and the rest of the engine relies on
supervised.py   predict the label of an image
simclr.py       recognise the views of an image among those of others
image_text.py   recognise the text of an image among those of others
distill.py      predict what a trained teacher predicts
pretext.py      answer questions that an image asks about itself:
rotation.py     by which angle it was turned
context.py      where a patch lies, seen from another
jigsaw.py       in which order its tiles stand
tiles.py        patches and tiles, cut out and scaled
probe.py        predict the label from one layer of a network that is given
"""

from collections.abc import Callable

from jaxvision.errors import unknown
from jaxvision.tasks import context, distill, image_text, jigsaw, probe, rotation, simclr, supervised
from jaxvision.tasks.task import Task

TASKS: dict[str, Callable[..., Task]] = {
    "supervised": supervised.make,
    "simclr": simclr.make,
    "image_text": image_text.make,
    "distill": distill.make,
    "rotation": rotation.make,
    "context": context.make,
    "jigsaw": jigsaw.make,
    "probe": probe.make,
}


def get(name: str) -> Callable[..., Task]:
    """The factory of the task of that name; UserError otherwise."""
    if name not in TASKS:
        raise unknown("task", name, TASKS)
    return TASKS[name]
