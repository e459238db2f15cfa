"""Tasks, which define what a model learns: one file for each, with a factory decorated with `@part("task", "NAME")`.

task.py         the contract between tasks and the rest of the engine
views.py        the views of an image, as tasks that compare them read a batch
teacher.py      a moving average of the network, which another task learns from
queue.py        rows of earlier batches
supervised.py   predict the label of an image
simclr.py       recognise the views of an image among those of others
byol.py         predict the projection of another view by an average of the network
dino.py         predict how an average of the network distributes another view over prototypes
masked.py       predict the pixels of patches that were masked:
mae.py          from the other patches alone, by a decoder
simmim.py       from all places, by a linear layer
moco.py         recognise the other view of an image among a queue of earlier images
moco_v3.py      the same among the images of the batch
swav.py         predict the prototypes that another view is assigned to
siamese.py      two views through one network:
barlow_twins.py their cross-correlation becomes the identity
vicreg.py       they agree, while dimensions vary and do not correlate
simsiam.py      predict the projection of the other view
nnclr.py        a neighbour from earlier batches recognises the other view
image_text.py   recognise the text of an image among those of others
distill.py      predict what a trained teacher predicts
pretext.py      answer questions whose answers are known from the image itself:
rotation.py     by which angle it was turned
context.py      in which direction a patch lies from another
jigsaw.py       in which order its tiles were put
tiles.py        patches and tiles, cut out and scaled
probe.py        predict the label from one layer of a trained network
"""

from collections.abc import Callable

from jaxvision.registry import PartRegistry
from jaxvision.tasks.task import Task

# Names of parameters that a factory may have; `components.make_task` passes their values.
OFFERED = ("num_classes", "multi_label", "fields", "dtype", "over_batch", "total_steps", "steps", "freeze")
TASKS = PartRegistry("task", [__name__], required=("model",), offered=OFFERED, usage='c.task = dict(name="NAME")')


def get_task(name: str) -> Callable[..., Task]:
    """Returns the factory of a task.

    Args:
      name: Name of the task, or "package.module:function" of your own.

    Raises:
      UserError: If there is no such task.
    """
    return TASKS.resolve(name)
