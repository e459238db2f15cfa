"""VICReg: two views of an image agree, while the dimensions of the embeddings vary and do not correlate."""

from collections.abc import Mapping
from typing import Annotated

from jaxvision.arguments import COUNT, Range
from jaxvision.fields import Field
from jaxvision.losses import decorrelation, representation
from jaxvision.models import heads
from jaxvision.registry import part
from jaxvision.tasks.siamese import Siamese
from jaxvision.tasks.task import PAIRS, Joint, ModelFn, Task


@part("task", "vicreg", small={"hidden": 16, "projection_dim": 8})
def make_vicreg(
    *,
    model: ModelFn,
    fields: Mapping[str, Field] = PAIRS,
    variance: Annotated[float, Range(0)] = 25.0,
    invariance: Annotated[float, Range(0)] = 25.0,
    covariance: Annotated[float, Range(0)] = 1.0,
    projection_layers: COUNT = 3,
    projection_dim: COUNT = 8192,
    hidden: COUNT = 8192,
) -> Task:
    """Makes the task of variance, invariance and covariance.

    VICReg (Bardes et al. 2022, arXiv 2105.04906, sec. 4.1, eq. 6). A hinge keeps the deviation of every dimension over
    the batch near 1 or above, so the embeddings need not be normalised and cannot collapse. Deviations and covariances
    are those of the whole batch, on any number of devices and with `train.accumulate`; only BatchNorm sees a
    microbatch.

    Batches: `image` float [b, 2, h, w, 3], from `views(2, ...)` or two different views in the augmentation.

    Metrics: `invariance`, `variance` and `covariance`, the terms before they are weighted: a `variance` near 1 shows
    that all images have one embedding, a large `covariance` that dimensions repeat each other; `embedding_std`.

    Outputs, for images [b, h, w, 3]: the outputs of the backbone, with "projection" [b, d].

    Args:
      model: Function of the number of classes, here None, that builds the backbone.
      fields: Fields of a batch; the images must have two views.
      variance: Weight mu of the variance term, at least 0.
      invariance: Weight lambda of the invariance term, at least 0.
      covariance: Weight nu of the covariance term, at least 0.
      projection_layers: Number of layers of the projection head, the paper's "expander".
      projection_dim: Width d of the head's output.
      hidden: Number of units of the layers before, each with BatchNorm and ReLU.
    """
    backbone = heads.bare_backbone("vicreg", model(None))
    options = dict(last_norm=False, last_bias=False, dtype=backbone.dtype)
    expander = heads.Projection(projection_layers, projection_dim, hidden, **options)
    siamese = Siamese("vicreg", heads.Projected(backbone, expander), fields)

    def compare(variables, embeddings, batch):
        z = embeddings["projection"]
        terms = decorrelation.vicreg(z)
        value = variance * terms.variance + invariance * terms.invariance + covariance * terms.covariance  # eq. 6
        return value, {**terms._asdict(), "embedding_std": representation.embedding_std(z[:, 0])}

    return Task(
        siamese.init,
        Joint(siamese.embed, compare),
        siamese.outputs,
        parts=siamese.parts,
        progress=("invariance", "variance", "covariance"),
        least=2,
    )
