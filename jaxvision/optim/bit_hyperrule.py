"""BiT-HyperRule: the hyperparameters of fine-tuning from the size of the data set and of its images alone.

Source: Kolesnikov et al. 2020, "Big Transfer (BiT)", arXiv 1912.11370, sec. 3.3; learning rates and warm-up in
their code, github.com/google-research/big_transfer, bit_hyperrule.py.
"""

from typing import NamedTuple

from jaxvision.errors import UserError

LEARNING_RATE, BATCH_SIZE, MOMENTUM = 0.003, 512, 0.9  # no weight decay
SMALL_IMAGE = 96 * 96  # pixels
SCHEDULES = (  # (fewer examples than this, steps, warm-up, mixup)
    (20_000, 500, 100, 0.0),
    (500_000, 10_000, 500, 0.1),
    (float("inf"), 20_000, 500, 0.1),
)


class HyperRule(NamedTuple):
    """The hyperparameters that the rule gives.

    Attributes:
      steps: Number of steps of SGD with momentum 0.9.
      warmup: Number of steps of the linear warm-up.
      mixup: Parameter alpha of mixup; 0 for none.
      resize: Side in pixels of the square that an image is resized to.
      crop: Side in pixels of the random crop from that square, and of the image in evaluation.
      learning_rate: Peak of the learning rate; it falls to a tenth after 30, 60 and 90 % of the steps. (The authors'
        code takes 40, 60 and 80 % of the 500 steps.)
    """

    steps: int
    warmup: int
    mixup: float
    resize: int
    crop: int
    learning_rate: float

    @property
    def host(self) -> str:
        """Host operations of training."""
        return f"decode|resize({self.resize})|random_crop({self.crop})"

    @property
    def augment(self) -> str:
        """Augmentation of training: flips, and mixup where there is any."""
        mixup = f"|mixup({self.mixup})" if self.mixup else ""
        return f"flip_lr|normalize(0.5, 0.5){mixup}"

    @property
    def schedule(self) -> str:
        """The step decay, as a spec of schedules."""
        return "step('30 percent', '60 percent', '90 percent')"


def hyperrule(
    examples: int, image_size: tuple[int, int], batch_size: int = BATCH_SIZE, large: bool = False
) -> HyperRule:
    """Applies the rule.

    Args:
      examples: Number of labelled examples in the training set, at least 1.
      image_size: (height, width) of its images in pixels.
      batch_size: Number of examples in a batch. If it is not the paper's 512, the learning rate is scaled in
        proportion, and steps and warm-up in inverse proportion, as in the authors' notebook.
      large: True for the larger images of R152x4. The authors' code takes them for every model.

    Raises:
      UserError: A number below 1.

    >>> rule = hyperrule(50_000, (32, 32))
    >>> rule.steps, rule.mixup, rule.resize, rule.crop
    (10000, 0.1, 160, 128)
    >>> hyperrule(1_281_167, (400, 500)).host
    'decode|resize(448)|random_crop(384)'
    """
    if min(examples, batch_size, *image_size) < 1:
        raise UserError(f"examples {examples}, batch_size {batch_size} and image_size {image_size} must be at least 1")
    _, steps, warmup, mixup = next(row for row in SCHEDULES if examples < row[0])
    small = image_size[0] * image_size[1] < SMALL_IMAGE
    resize, crop = (160, 128) if small else (512, 480) if large else (448, 384)
    ratio = batch_size / BATCH_SIZE
    return HyperRule(round(steps / ratio), round(warmup / ratio), mixup, resize, crop, LEARNING_RATE * ratio)
