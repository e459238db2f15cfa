"""The sections of a config that the engine itself reads: data, train, init, mesh, and the common part of evals.

The others are the keyword arguments of what they name: a model's builder, a task's factory, an
optimizer (`optim.make`), an evaluator's factory.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, NamedTuple

from jaxvision.arguments import COUNT, SHARE, SIDE, Range, Section


class DataSection(NamedTuple):
    """`config.data`: the training set.

    Attributes:
      name: a TFDS name, or one of the other sources of docs/data.md: `folder`, `webdataset`, `shapes`, ...
      split: with TFDS slicing, `train[:90%]`.
      batch_size: examples a step, over all devices and processes.
      host: spec of host operations.
      fields: of the examples, what goes into the batch.
      data_dir: where the set lies; the default is that of its kind.
      options: further arguments of the source, such as `dict(image_size=64)` of `shapes`.
      subset: `dict(examples=5000, seed=0)` or `dict(per_class=25, seed=0)`, a nested class-balanced subset.
      classes, examples, multi_label: what the set is known to hold, before `subset`; they are checked against it (more
        `examples` than there are is a warning), and stand for it where it is not there, as for `inspect`. Labels that
        are whole numbers and say no number of classes count `classes`.
      image_size: side or (height, width) of the images as they are stored, which stands for them where the set is not
        there and is checked where it is. The size that the model sees is what `host` makes of it.
      resident: `auto` keeps a set that fits in memory, `always` and `never` decide.
      threads: that read and decode a stream; 0 does it in the main thread.
      processes: that read and decode a stream in place of threads, which must then be left out or 0; 0 for none.
      max_bad_fraction: share of the set that may be unreadable, over the whole run; see docs/data.md.
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
    """`config.train`.

    Attributes:
      total: length of the run; durations are '90 epochs', '10_000 steps', '1e6 examples', '5 percent', or 0 without
        a unit. A number alone is an error.
      precision: of the computation, `float32` or `bfloat16`; parameters and losses are float32.
      ema: decay of the average of the variables, or None.
      accumulate: parts of a batch that are computed one after the other; their gradients are averaged, or, of
        `image_text`, those of the whole batch.
      log_every, checkpoint_every: durations; 0 means at the end only.
      keep: how many of the latest checkpoints stay; with 1 there is none to go back to if that one is damaged.
      steps_per_dispatch: of a set in memory; 0 lets the program choose. A stream has one.
      max_skipped: how many steps in a row may be skipped because their loss, gradient or update is not finite; at one
        more the run saves its state and stops. 0: at the first.
      skip_spikes: whether a step is skipped, too, whose loss is a spike: 7 standard deviations above its average.
      hang_timeout: seconds without progress after which a run ends with status 86 and the stacks of its threads in
        WORKDIR/hang-PROCESS.txt; 20 times the slowest of the recent steps if that is longer, and six times as many
        for what is no step (compiling, evaluations, saving). 0 turns it off.
    """

    total: str | float
    precision: str = "float32"
    ema: float | None = None
    accumulate: COUNT = 1
    log_every: str | float = "1 percent"
    checkpoint_every: str | float = "10 percent"
    keep: COUNT = 2
    steps_per_dispatch: Annotated[int, Range(0)] = 0
    max_skipped: Annotated[int, Range(0, 2**30)] = 10
    skip_spikes: bool = False
    hang_timeout: Annotated[float, Range(0)] = 300.0


class InitSection(NamedTuple):
    """`config.init`: the weights that a run starts from; a run that has a checkpoint goes on from that.

    Attributes:
      weights: a folder of `jaxvision convert`, the workdir of a run, or a file of another library.
      source: that library, one of `models.weights.sources()`, where `weights` is such a file.
      model: "NAME" or "NAME:VARIANT" that the weights are of, for a check against `config.model`.
      head: "keep" the classifier of the weights, "new" for other classes, "drop" where the model has none.
      freeze: what is not trained: "backbone" (all but the head), "all_but_last(2)" (all but head, final norm
        and the last two blocks of a ViT or stages of a ResNet), or None.
      ignore: regular expressions over names in the file that are deliberately not used.
      positions: "bicubic" or "bilinear", how position embeddings are resized to another image size.
      prefix: what stands before the names that are used, "teacher." or "backbone.", where the file leaves a choice;
        None takes off what all names share, and of several sets of weights takes the average.
      part: of the variables, what is filled, where the task has more than one model: "teacher" of `distill`,
        "image_tower" or "text_tower" of a model of two towers (None for both).
      from_part: of the run that `weights` names, what is taken, such as the "teacher" of a run with one; None takes its
        model.
    """

    weights: str
    source: str = "jaxvision"
    model: str | None = None
    head: str = "keep"
    freeze: str | None = None
    ignore: tuple[str, ...] = ()
    positions: str = "bicubic"
    prefix: str | None = None
    part: str | None = None
    from_part: str | None = None


class MeshSection(NamedTuple):
    """`config.mesh`: the devices, and how the state is laid over them.

    Attributes:
      data, fsdp, tensor: sizes of the axes; at most one is -1, which is what the others leave. See parallel/mesh.py.
      rules: name of sharding rules, or the rules themselves; see parallel/rules.py.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1
    rules: str | Sequence = "replicated"


class EvalSection(NamedTuple):
    """What each entry of `config.evals` may hold beside the options of its evaluator.

    Attributes:
      name: the evaluator.
      split: what it judges.
      train_split: of the same set, what an evaluator learns from that fits a model of its own, such as `fewshot`.
      train_subset: of that, as `subset` of `config.data`.
      every: a duration; 0 means at the end only.
      weights: `averaged` (where `train.ema` keeps an average, else the trained ones) or `trained`.
      data: another data set than the training set, with its `data_dir`, `options` and `subset`.
      host, augment: specs; by default those of training without their random operations.
      batch_size: by default that of training.
      sets: several sets in place of one, each a name and the keys in which its entry differs from this one:
        `dict(v2=dict(data="imagenet_v2", split="test"), r=dict(data="imagenet_r", split="test", only="imagenet_r"))`.
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
