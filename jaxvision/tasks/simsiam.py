"""SimSiam: the network predicts, from one view of an image, its own projection of another, which takes no gradient."""

from collections.abc import Mapping

import jax

from jaxvision.arguments import COUNT
from jaxvision.fields import Field
from jaxvision.losses import representation
from jaxvision.losses.pairs import unit
from jaxvision.models import heads
from jaxvision.registry import part
from jaxvision.tasks.siamese import Siamese
from jaxvision.tasks.task import PAIRS, Batch, ModelFn, Task, Variables


@part("task", "simsiam", small={"hidden": 16, "predictor_hidden": 8, "projection_dim": 8})
def make_simsiam(
    *,
    model: ModelFn,
    fields: Mapping[str, Field] = PAIRS,
    projection_dim: COUNT = 2048,
    hidden: COUNT = 2048,
    predictor_hidden: COUNT = 512,
) -> Task:
    """Makes the task that predicts, from one view of an image, the projection of the other view.

    SimSiam (Chen and He 2021, arXiv 2011.10566, sec. 3, alg. 1): BYOL without a teacher. The projections that are
    predicted are constants to the gradient; without this the network collapses (sec. 4.1). Three layers project, with
    BatchNorm after each of them, the last without scale and offset; two layers predict (sec. 3, "Baseline settings").
    The authors' code passes one view after the other; here both views of all images are one batch for BatchNorm.

    The predictor's learning rate is not decayed in the authors' code, which gains 0.4 % (sec. 4.2, table 1 c):
    `optimizer.schedule_rules=((r"^predictor/", "constant"),)`.

    Batches: `image` float [b, 2, h, w, 3], from `views(2, ...)` or two different views in the augmentation.

    Metrics: `similarity`, the mean cosine of prediction and projection, which is minus the loss; `embedding_std` of the
    projections, near 1 if they spread over the sphere and 0 in a collapse (fig. 2, where it is divided by sqrt(d)).

    Outputs, for images [b, h, w, 3]: the outputs of the backbone, with "projection" and "prediction" [b, d].

    Args:
      model: Function of the number of classes, here None, that builds the backbone.
      fields: Fields of a batch; the images must have two views.
      projection_dim: Width d of projection and prediction.
      hidden: Number of units of the two hidden layers of the projection head.
      predictor_hidden: Number of units of the predictor's hidden layer, a quarter of d in the paper.
    """
    backbone = heads.bare_backbone("simsiam", model(None))
    projection = heads.Projection(3, projection_dim, hidden, last_scale=False, dtype=backbone.dtype)
    predictor = heads.Projection(2, projection_dim, predictor_hidden, last_norm=False, dtype=backbone.dtype)
    siamese = Siamese("simsiam", heads.Predicted(heads.Projected(backbone, projection), predictor), fields)

    def loss(variables: Variables, batch: Batch, rng: jax.Array) -> tuple:
        embeddings, updates = siamese.embed(variables, batch, rng)
        z, p = embeddings["projection"], embeddings["prediction"]
        targets = jax.lax.stop_gradient(z)[:, ::-1]  # of the other view
        similarity = (unit(p) * unit(targets)).sum(-1).mean()
        metrics = {"similarity": similarity, "embedding_std": representation.embedding_std(z[:, 0])}
        return -similarity, (metrics, updates)  # eq. 4: the mean over both directions

    return Task(
        siamese.init, loss, siamese.outputs, parts=siamese.parts, progress=("similarity", "embedding_std"), least=2
    )
