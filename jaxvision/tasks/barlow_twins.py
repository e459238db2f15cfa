"""Barlow Twins: each dimension of an embedding agrees between two views, and says what no other one says."""

from collections.abc import Mapping
from typing import Annotated

from jaxvision.arguments import COUNT, Range
from jaxvision.fields import Field
from jaxvision.losses import decorrelation, representation
from jaxvision.models import heads
from jaxvision.registry import part
from jaxvision.tasks.siamese import Siamese
from jaxvision.tasks.task import PAIRS, Joint, ModelFn, Task


@part("task", "barlow_twins", small={"hidden": 16, "projection_dim": 8})
def make_barlow_twins(
    *,
    model: ModelFn,
    fields: Mapping[str, Field] = PAIRS,
    redundancy: Annotated[float, Range(0)] = 0.0051,
    projection_layers: COUNT = 3,
    projection_dim: COUNT = 8192,
    hidden: COUNT = 8192,
) -> Task:
    """Makes the task that turns the cross-correlation matrix of two views into the identity.

    Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230, sec. 2, alg. 1). There are no negatives, no predictor and no
    teacher. The matrix is that of the whole batch, on any number of devices and with `train.accumulate`; only BatchNorm
    sees a microbatch. The authors' code passes one view after the other; here both views of all images are one batch
    for BatchNorm, and each view has a mean and variance of its own in the loss.

    The loss is a sum over dimensions, so an optimizer that is not invariant to its scale needs a small rate.

    Batches: `image` float [b, 2, h, w, 3], from `views(2, ...)` or two different views in the augmentation.

    Metrics: `correlation`, the mean of the diagonal, rises to 1; `cross_correlation`, the root mean square of the other
    elements, is near 1 if all dimensions are one; `embedding_std` of the projections falls to 0 if all images are
    projected to one point.

    Outputs, for images [b, h, w, 3]: the outputs of the backbone, with "projection" [b, d].

    Args:
      model: Function of the number of classes, here None, that builds the backbone.
      fields: Fields of a batch; the images must have two views.
      redundancy: Weight lambda of the squared elements outside the diagonal, at least 0.
      projection_layers: Number of layers of the projection head.
      projection_dim: Width d of the head's output. The paper's accuracy grows with it up to 16,384.
      hidden: Number of units of the layers before, each with BatchNorm and ReLU.
    """
    backbone = heads.bare_backbone("barlow_twins", model(None))
    options = dict(last_norm=False, last_bias=False, dtype=backbone.dtype)
    head = heads.Projection(projection_layers, projection_dim, hidden, **options)
    twins = Siamese("barlow_twins", heads.Projected(backbone, head), fields)

    def compare(variables, embeddings, batch):
        z = embeddings["projection"]
        terms = decorrelation.barlow_twins(z)
        metrics = {
            "correlation": terms.correlation,
            "cross_correlation": terms.cross_correlation,
            "embedding_std": representation.embedding_std(z[:, 0]),
        }
        return terms.invariance + redundancy * terms.redundancy, metrics  # eq. 1

    return Task(
        twins.init,
        Joint(twins.embed, compare),
        twins.outputs,
        parts=twins.parts,
        progress=("correlation", "cross_correlation"),
        least=2,
    )
