"""What a preset of the study consists of: data, arms, pairs, budgets, measures."""

from typing import Any, NamedTuple

SHOTS = (1, 5, 10, 25)
TUNING_SEED = 100  # not a reported seed
FEWSHOT = dict(name="fewshot", shots=SHOTS, l2=1024.0, draws=3)
PLAIN = "normalize(0.5, 0.5)"  # only the scaling of pixels
SMALL_VIT = dict(width=16, depth=1, mlp_dim=32, num_heads=2)  # for smoke tests


class Arm(NamedTuple):
    """One architecture and its learning rate; `small` holds options that make it small enough for smoke tests."""

    model: dict[str, Any]
    learning_rate: float
    small: dict[str, Any]


class Pair(NamedTuple):
    """A ResNet and a ViT, compared at these numbers of examples; `matched` if they cost about the same."""

    resnet: str
    vit: str
    sizes: tuple[int, ...]
    matched: bool = True


class Lengths(NamedTuple):
    """Schedules of other lengths, each planned as a whole: its learning rate falls to zero at its own end.

    Attributes:
      factors: Factors by which the steps of the preset are multiplied.
      sizes: Training examples at which they are run.
      seeds: Seeds of the runs.
    """

    factors: tuple[float, ...]
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]


class Transfer(NamedTuple):
    """Fine-tuning to another task: SGD with momentum 0.9, cosine decay, clipping at 1 (table 4 of the paper)."""

    title: str
    data: dict[str, Any]
    augment: str
    validation: str
    steps: int
    learning_rate: float


class Preset(NamedTuple):
    """One size of the study.

    Attributes:
      title: Name of the data, for captions.
      data: Section `data` of the configs, without subset; `examples` is the size of the whole set.
      evals: Section `evals` of the configs; all criteria use `val`.
      arms: Arms by name.
      pairs: Pairs that are compared; the first one also has the tuned and transfer runs, and those of other lengths.
      seeds: Seeds, each of which determines subset, initialisation and order.
      steps: Number of steps of every run, at every size.
      support: Clause that says what few-shot accuracy is fitted to; empty if it is not measured.
      optimizer: Section `optimizer`, without the learning rate of the arm.
      train: Section `train`, without the length.
      augment: Augmentation of training.
      transfer: Task to which the runs of the largest size, and the same networks from random weights, are fine-tuned;
        None for no such runs.
      plain_sizes: Sizes at which the first pair is also trained without augmentation.
      families: Pairs of ResNets of the two families, whose difference at every size is reported.
      seen: Most images of the subset on which training accuracy is measured.
      measures: Evaluations of the finished runs that are not in `evals`.
      rates: Learning rates of the sweep, for both arms at `tuned_sizes`.
      lengths: Schedules of other lengths; None for none.
      needs_dir: Data that --data_dir must name; empty if there is a default.
      crosses: True for a label that is made for a crossing, with the criteria of relations.py.
    """

    title: str
    data: dict[str, Any]
    evals: dict[str, Any]
    arms: dict[str, Arm]
    pairs: tuple[Pair, ...]
    seeds: tuple[int, ...]
    steps: int
    optimizer: dict[str, Any]
    train: dict[str, Any]
    augment: str
    transfer: Transfer | None = None
    plain_sizes: tuple[int, ...] = ()
    families: tuple[tuple[str, str], ...] = ()
    seen: int = 5_000
    measures: dict[str, Any] = {}
    support: str = ""
    rates: tuple[float, ...] = ()
    tuned_sizes: tuple[int, ...] = ()
    lengths: Lengths | None = None
    needs_dir: str = ""
    crosses: bool = False

    @property
    def sizes(self) -> tuple[int, ...]:
        """Training examples of the first pair, ascending; each subset is part of the next."""
        return self.pairs[0].sizes
