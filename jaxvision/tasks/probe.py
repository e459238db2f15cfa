"""A classifier trained on one layer of a network, with augmentation, as long and in the way that the config says."""

from collections.abc import Callable
from typing import Any

from jaxvision.errors import unknown
from jaxvision.found import part
from jaxvision.models.options import whole
from jaxvision.models.probe import HIDDEN, Probed
from jaxvision.tasks import supervised
from jaxvision.tasks.task import Task


@part("task", "probe")
def make_probe(
    *,
    model: Callable[[int | None], Any],
    num_classes: int | None,
    multi_label: bool = False,
    layer: str = "features",
    classifier: str = "linear",
    hidden: int | None = None,
    loss: str = "softmax_cross_entropy",
    label_smoothing: float = 0.0,
    statistics: str | None = None,
    freeze: str | None = None,
) -> Task:
    """A task that fits labels by a new classifier on a layer of the network.

    With `init.freeze="backbone"` and `init.head="new"` nothing but the classifier is trained, on features as an
    evaluation sees them, and the network stays bit for bit as it was loaded. Without `freeze` the network is
    fine-tuned below that layer.

    Args:
      model: `model(None)` builds the network.
      num_classes, multi_label: of the data set.
      layer: "features", or the name of an output, as in "map" or "stages/1".
      classifier: "linear", "mlp" or "conv", see `models.probe.Classifier`; the last two are the non-linear and the
        convolutional classifier of Gidaris et al. 2018, sec. 3.1.
      hidden: units of "mlp" (200 by default) or channels of "conv" (192).
      loss, label_smoothing: see `supervised.make_supervised`.
      statistics, freeze: "batch" or "running", and `init.freeze`: how the network below the classifier is applied, see
        `supervised.make_supervised`.

    Batches, metrics and outputs: see `supervised.make_supervised`; "logits" are those of the classifier.
    """
    if classifier not in HIDDEN:
        raise unknown("value of task.classifier", classifier, HIDDEN)
    whole("task.hidden", hidden, optional=True)
    statistics = supervised.chosen_statistics(statistics, freeze)
    units = HIDDEN[classifier] if hidden is None else hidden
    return supervised.make_supervised(
        model=lambda k: Probed(model(None), layer, classifier, k, units, statistics),
        num_classes=num_classes,
        multi_label=multi_label,
        loss=loss,
        label_smoothing=label_smoothing,
    )
