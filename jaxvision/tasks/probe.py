"""A classifier on one layer of a trained network, trained with augmentation like any other run."""

from jaxvision.errors import UserError, unknown
from jaxvision.models.options import whole
from jaxvision.models.probe import HIDDEN, Probed
from jaxvision.registry import part
from jaxvision.tasks import supervised
from jaxvision.tasks.task import ModelFn, Task


@part("task", "probe")
def make_probe(
    *,
    model: ModelFn,
    num_classes: int | None,
    multi_label: bool = False,
    layer: str = "features",
    classifier: str = "linear",
    hidden: int | None = None,
    norm: bool = False,
    loss: str = "softmax_cross_entropy",
    label_smoothing: float = 0.0,
    statistics: str | None = None,
    freeze: str | None = None,
) -> Task:
    """Makes the task that predicts labels by a new classifier on a layer of the network.

    With `init.freeze="backbone"` and `init.head="new"` only the classifier is trained, on the features that an
    evaluation sees, and the network stays bit for bit as it was loaded. Without `freeze`, the network is fine-tuned up
    to that layer.

    Batches, metrics and outputs are those of the task `supervised`; "logits" are the logits of the classifier.

    Args:
      model: Function of the number of classes, here None, that builds the network.
      num_classes: Number of classes of the data set.
      multi_label: True if an image of the set has any number of labels.
      layer: Name of the layer, "features" or an output such as "map" or "stages/1".
      classifier: Kind of the classifier, "linear", "mlp" or "conv". The last two are
        the non-linear and the convolutional classifier of Gidaris et al. 2018, sec. 3.1.
      hidden: Number of units of "mlp" (None: 200) or channels of "conv" (None: 192).
      norm: True for BatchNorm without scale and offset before the linear classifier (He et al. 2022, MAE, app. A.1).
      loss, label_smoothing: Loss, and share of each label that is spread, as of the task `supervised`.
      statistics, freeze: Mode of the network below the classifier, "batch" or "running", and value of `init.freeze`,
        as of the task `supervised`.

    Raises:
      UserError: If the data set has no classes or only one, or an option is out of range.
    """
    if classifier not in HIDDEN:
        raise unknown("value of task.classifier", classifier, HIDDEN)
    whole("task.hidden", hidden, optional=True)
    if norm and classifier != "linear":
        raise UserError(f"task.norm is for the classifier 'linear'; {classifier!r} has BatchNorm of its own")
    statistics = supervised.chosen_statistics(statistics, freeze)
    units = HIDDEN[classifier] if hidden is None else hidden
    return supervised.make_supervised(
        model=lambda k: Probed(model(None), layer, classifier, k, units, statistics, norm),
        num_classes=num_classes,
        multi_label=multi_label,
        loss=loss,
        label_smoothing=label_smoothing,
    )
