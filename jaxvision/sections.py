"""The sections of a config, and those that the engine itself reads: data, train, init, mesh, online, and the common
keys of evals and loggers.

The other sections hold the keyword arguments of the function that they name: the builder of a model, the factory of a
task or an evaluator, an optimizer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, NamedTuple

from jaxvision.arguments import COUNT, POSITIVE, SHARE, SIDE, Range, Section


@dataclass(kw_only=True)
class ConfigSections:
    """A config: its sections, each of which holds the keyword arguments of one function, and two values.

    Attributes:
      seed: Seed of everything that is drawn at random: initial weights, order of the examples, augmentation, dropout.
      data: Training set, the operations on the host, and the batch size.
      augment: Spec of the augmentation on the device, such as "flip_lr|normalize(0.5, 0.5)"; "none" for no operations.
      model: Model by its name, with its options.
      task: Task by its name, with its options: what the model learns.
      optimizer: Optimizer by its name, with its options, the learning rate and its schedule.
      train: Length, precision and safety of the run.
      init: Weights that the run starts from; without this section they are drawn at random.
      evals: Evaluations by a name of your choice.
      online: Linear probe and k-NN that judge the features in every step, beside any task.
      mesh: Devices, and how the state is laid over them.
      loggers: Places besides the workdir that get the numbers of the run, such as Weights & Biases, by name.
    """

    seed: int = 0
    data: Annotated[Mapping, Section("data")]
    augment: str = "none"
    model: Annotated[Mapping, Section("model")]
    task: Annotated[Mapping, Section("task")]
    optimizer: Annotated[Mapping, Section("optimizer")]
    train: Annotated[Mapping, Section("train")]
    init: Annotated[Mapping | None, Section("init")] = None
    evals: Annotated[Mapping, Section("evals")] = field(default_factory=dict)
    online: Annotated[Mapping | None, Section("online")] = None
    mesh: Annotated[Mapping, Section("mesh")] = field(default_factory=dict)
    loggers: Annotated[Mapping | None, Section("loggers")] = None


class DataSection(NamedTuple):
    """`config.data`: the training set.

    Attributes:
      name: Name of a TFDS set, or of one of the other sources in docs/data.md: `folder`, `webdataset`, `shapes`, ...
      split: Name of the split, with TFDS slicing: `train[:90%]`.
      batch_size: Number of examples in a step, over all devices and processes.
      host: Spec of the host operations.
      fields: Names of the fields of an example that go into the batch.
      data_dir: Folder of the set; None takes the default folder of its source.
      options: Further arguments of the source, such as `dict(image_size=64)` for `shapes`.
      subset: Nested class-balanced subset, `dict(examples=5000, seed=0)` or `dict(per_class=25, seed=0)`.
      classes: Number of classes that the set is known to have; for whole-number labels whose source does not say how
        many classes there are, this is the number.
      examples: Number of examples that the set is known to have, before `subset`.
      multi_label: True if an image of the set has several labels. These three facts are compared with the set (more
        `examples` than it has is a warning), and replace it where it is not available, as in `inspect`.
      image_size: Side, or (height, width), of the images as they are stored: compared with the set, or used in its
        place where it is not available. The size that the model sees depends on `host`.
      resident: `auto` keeps a set in memory if it fits, `always` keeps it, `never` streams it.
      threads: Number of threads that read and decode a stream; 0 does it in the main thread.
      processes: Number of processes that read and decode a stream instead of threads; 0 for none. Leave `threads` out,
        or 0, when you set it.
      max_bad_fraction: Share of the set that may be unreadable, over the whole run; see docs/data.md.
    """

    name: str
    split: str
    batch_size: COUNT
    host: str = "decode"
    fields: tuple[str, ...] = ("image", "label")
    data_dir: str | None = None
    options: Annotated[Mapping | None, Section("data options")] = None
    subset: Annotated[Mapping | None, Section("subset")] = None
    classes: COUNT | None = None
    examples: COUNT | None = None
    multi_label: bool = False
    image_size: SIDE | tuple[SIDE, SIDE] | None = None
    resident: str = "auto"
    threads: Annotated[int, Range(0)] = 16
    processes: Annotated[int, Range(0)] = 0
    max_bad_fraction: SHARE = 0.001


class TrainSection(NamedTuple):
    """`config.train`: length, precision and safety of the run.

    Attributes:
      total: Length of the run. A duration is '90 epochs', '10_000 steps', '1e6 examples', '5 percent', or 0 without
        a unit. Any other number without a unit is an error.
      precision: Type of the computation, `float32` or `bfloat16`; parameters and losses are float32.
      ema: Decay of the average of the variables, or None for no average.
      accumulate: Number of microbatches that a batch is split into. Their gradients are averaged; the task
        `image_text` computes the gradient of the whole batch instead.
      log_every, checkpoint_every: Durations between two logs, or two checkpoints; 0 means at the end only.
      keep: Number of the latest checkpoints that stay. With 1, a run whose checkpoint is damaged cannot go back.
      keep_best: Result of an evaluation, such as "val/top1". The checkpoint with its best value stays too, and commands
        take it with `--step=best`. None keeps only the latest.
      best_is: "highest" or "lowest", the value of `keep_best` that is the best; None to know it from the name.
      patience: Duration without a better value of `keep_best` after which the run ends early, such as '5 epochs', or
        '3 evaluations'; None to train to the end.
      steps_per_dispatch: Number of steps that the host starts at once, for a set in memory; 0 lets the program choose.
        A stream always takes one.
      max_skipped: Number of steps in a row that may be skipped because their loss, gradient or update is not finite.
        One more, and the run saves its state and stops; 0 stops at the first.
      skip_spikes: True to also skip a step whose loss is a spike: 7 standard deviations above its average.
      hang_timeout: Seconds without progress after which a run ends with status 86 and writes the stacks of its threads
        to WORKDIR/hang-PROCESS.txt. The limit is 20 times the slowest recent step if that is longer, and six times as
        long outside of steps (compiling, evaluations, saving). 0 turns it off.
    """

    total: str | float
    precision: str = "float32"
    ema: float | None = None
    accumulate: COUNT = 1
    log_every: str | float = "1 percent"
    checkpoint_every: str | float = "10 percent"
    keep: COUNT = 2
    keep_best: str | None = None
    best_is: str | None = None
    patience: str | None = None
    steps_per_dispatch: Annotated[int, Range(0)] = 0
    max_skipped: Annotated[int, Range(0, 2**30)] = 10
    skip_spikes: bool = False
    hang_timeout: Annotated[float, Range(0)] = 300.0


class InitSection(NamedTuple):
    """`config.init`: the weights that a run starts from. A run that has a checkpoint continues from the checkpoint.

    Attributes:
      weights: Folder that `jaxvision convert` wrote, workdir of a run, or file of another library; or "hf:OWNER/NAME",
        weights of the Hugging Face Hub, downloaded once and then read from its cache.
      source: Library that wrote the file, one of `models.weights.sources()`; "jaxvision" for a folder or workdir, and
        for weights of the hub, which say their library.
      model: Name of the model that the weights belong to, "NAME" or "NAME:VARIANT", to compare with `config.model`.
      head: "keep" the classifier of the weights, "new" for other classes, "drop" if the model has no classifier. With
        "new", the norm of `model.fc_norm` is new too if the weights have none.
      freeze: Parts that are not trained: "backbone" (all but the head), "all_but_last(2)" (all but head, final norm
        and the last two blocks of a ViT or stages of a ResNet), or None.
      ignore: Regular expressions for the names in the file that are left out on purpose.
      new: Regular expressions for the parameters of the model that keep their random values, such as layers that the
        weights do not have (Simonyan & Zisserman 2015, sec. 3.1: a deep net that starts from a shallower one).
      positions: Interpolation, "bicubic" or "bilinear", that resizes position embeddings to another image size.
      prefix: Prefix of the names to use, such as "teacher." or "backbone.", for a file with several models. None
        removes the prefix that all names share, and takes the average if there are several sets of weights.
      part: Part of the variables to fill, for a task with more than one model: "teacher" of `distill`, "image_tower" or
        "text_tower" of a model of two towers (None fills both).
      from_part: Part to take from the run that `weights` names, such as "teacher"; None takes the model.
      step: Step of the run that `weights` names; "best" for the best by its `train.keep_best`, None for its latest
        checkpoint.
    """

    weights: str
    source: str = "jaxvision"
    model: str | None = None
    head: str = "keep"
    freeze: str | None = None
    ignore: tuple[str, ...] = ()
    new: tuple[str, ...] = ()
    positions: str = "bicubic"
    prefix: str | None = None
    part: str | None = None
    from_part: str | None = None
    step: int | str | None = None


class MeshSection(NamedTuple):
    """`config.mesh`: the devices, and how the state is laid over them.

    Attributes:
      data, fsdp, tensor: Sizes of the axes. At most one is -1, and takes the devices that the others leave; see
        parallel/mesh.py.
      rules: Name of sharding rules, or the rules themselves; see parallel/rules.py.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    rules: str | Sequence = "replicated"


class EvalSection(NamedTuple):
    """The keys that every entry of `config.evals` may have, next to the options of its evaluator.

    Attributes:
      name: Name of the evaluator.
      split: Split that is evaluated.
      train_split: Split of the same set for evaluators that learn from images, such as `fewshot`.
      train_subset: Subset of `train_split`, as `subset` in `config.data`.
      every: Duration between two evaluations; 0 means at the end only.
      weights: `averaged` (the average if `train.ema` keeps one, else the trained weights) or `trained`.
      data: Name of another data set than the training set, with its `data_dir`, `options` and `subset`.
      data_dir: Folder of that set.
      options: Further arguments of its source.
      subset: Subset of the set, as in `config.data`.
      host, augment: Specs of host operations and augmentation; None takes those of training without their random
        operations.
      batch_size: Number of examples in a batch; None takes the batch size of training.
      sets: Several sets for one entry: a name for each, and the keys that differ from this entry:
        `dict(v2=dict(data="imagenet_v2", split="test"), r=dict(data="imagenet_r", split="test", only="imagenet_r"))`.
      mean: True to add the mean of each metric over the `sets`, as `ENTRY/mean/METRIC`.
    """

    name: str
    split: str
    train_split: str | None = None
    train_subset: Annotated[Mapping | None, Section("subset")] = None
    every: str | float = 0
    weights: str = "averaged"
    data: str | None = None
    data_dir: str | None = None
    options: Annotated[Mapping | None, Section("evaluation options")] = None
    subset: Annotated[Mapping | None, Section("subset")] = None
    host: str | None = None
    augment: str | None = None
    batch_size: COUNT | None = None
    sets: Mapping[str, Mapping] | None = None
    mean: bool = False


class OnlineSection(NamedTuple):
    """`config.online`: what watches the features of a run in every step; at least one of them.

    Attributes:
      probe: Linear classifier that is trained on the features, without a gradient to the network.
      knn: Vote of the nearest neighbours among the features of the last images.
    """

    probe: Annotated[Mapping | None, Section("online probe")] = None
    knn: Annotated[Mapping | None, Section("online knn")] = None


class OnlineProbe(NamedTuple):
    """`config.online.probe`: a linear classifier beside the task, with the metrics `online/probe_top1` and `_loss`.

    Attributes:
      layer: Name of the output of the task that it reads: "features", or another, such as "stages/2"; maps and
        sequences are averaged over their positions.
      learning_rate: Learning rate of its Adam, the same in all steps.
    """

    layer: str = "features"
    learning_rate: POSITIVE = 1e-3


class OnlineKnn(NamedTuple):
    """`config.online.knn`: nearest neighbours beside the task, with the metric `online/knn_top1`.

    Attributes:
      layer: Name of the output of the task that it reads, as for the probe.
      size: Number of images whose features are kept: the last ones.
      k: Number of neighbours that vote.
      temperature: Temperature of their weights exp(cosine / temperature).
    """

    layer: str = "features"
    size: COUNT = 4096
    k: COUNT = 20
    temperature: POSITIVE = 0.07


class LoggerSection(NamedTuple):
    """The keys that every entry of `config.loggers` may have, next to the options of its logger.

    Attributes:
      name: Name of the logger, or "package.module:function" of your own; without it, that of the entry.
      run_name: Name that the logger gives to the run; None takes that of the workdir.
    """

    name: str
    run_name: str | None = None
