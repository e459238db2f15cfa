"""Two views of each image through one network with a projection head: what the tasks that compare them share."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax

from jaxvision.fields import Field
from jaxvision.models import heads
from jaxvision.tasks.task import PARTS, Batch, Variables, in_training, module_pattern, outputs_of
from jaxvision.tasks.views import as_examples, views_of

if TYPE_CHECKING:
    from flax import linen as nn

COMPARED = ("projection", "prediction")  # outputs of the network that a loss may read


class Siamese(NamedTuple):
    """A network that two views of each image go through. BatchNorm sees both views of all images as one batch.

    Attributes:
      task: Name of the task, for messages.
      network: Module with a projection head, `heads.Projected`, or also a predictor, `heads.Predicted`.
      fields: Fields of a batch; the images must have two views.
    """

    task: str
    network: "nn.Module"
    fields: Mapping[str, Field]

    def init(self, rng: jax.Array, batch: Batch) -> Variables:
        """Makes the variables; see `Task.init`.

        Args:
          rng: Key of the initial values.
          batch: Batch as it comes from the augmentation.

        Raises:
          UserError: If there are not two views of each image.
        """
        return dict(self.network.init(rng, views_of(self.task, batch, self.fields, 2)[:, 0], train=False))

    def embed(self, variables: Variables, batch: Batch, rng: jax.Array) -> tuple[dict[str, jax.Array], Variables]:
        """Applies the network to both views as in training; see `Joint.embed`.

        Args:
          variables: Variables of the network, and others, which it does not read.
          batch: Batch with `image` float [b, 2, h, w, 3].
          rng: Key of the dropout.

        Returns:
          "projection" and, if the network has a predictor, "prediction", float32 [b, 2, d], and updated collections.
        """
        images = views_of(self.task, batch, self.fields, 2)
        (_, out), updates = in_training(self.network, variables, as_examples(images), rng=rng)
        return {name: out[name].reshape(len(images), 2, -1) for name in COMPARED if name in out}, updates

    def outputs(self, variables: Variables, batch: Batch) -> dict[str, Any]:
        """Computes the outputs of the network in evaluation; see `Task.outputs`.

        Args:
          variables: Variables of the network.
          batch: Batch with `image` float [b, h, w, 3].
        """
        return outputs_of(self.network, variables, batch["image"])

    @property
    def parts(self) -> dict[str, str]:
        """Pattern over the paths of the network's variables by name of the part; see `Task.parts`."""
        names = ("predictor", "projection") if isinstance(self.network, heads.Predicted) else ("projection",)
        return {**{name: module_pattern(name) for name in names}, **PARTS}
