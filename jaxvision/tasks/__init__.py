"""What is learned: one file a task, whose factory is decorated with `@part("task", "NAME")`.

task.py         the contract that every task fills and the rest of the engine relies on
supervised.py   predict the label of an image
simclr.py       recognise the views of an image among those of others
byol.py         predict what an average of the network makes of another view
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

from jaxvision.found import Parts
from jaxvision.tasks.task import Task

# What a factory may ask for, by the names of its parameters; see `parts.make_task`, which has it.
OFFERED = ("num_classes", "multi_label", "fields", "dtype", "over_batch", "total_steps", "steps", "freeze")
TASKS = Parts("task", [__name__], given=("model",), offered=OFFERED)


def get_task(name: str) -> Callable[..., Task]:
    """The factory of the task of that name, or of "package.module:function"; UserError otherwise."""
    return TASKS.resolve(name)
