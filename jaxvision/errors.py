"""The one error that a user can cause, and its wording: the thing, the value, the nearest match, the choices."""

import contextlib
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping

from jaxvision.exits import EXIT_USER_ERROR

MAX_CHOICES = 12  # most choices that a message names; a study may have seventy runs
MAX_LINE = 1800  # most characters in a line of a message
MAX_VALUE = 120  # most characters of a value that a message repeats

# Names of this project -> names of the same thing in timm, torchvision, Lightning, Ultralytics, Keras, Transformers or
# big_vision. Of several names on the left, the first that is among the choices is suggested.
_CALLED = {
    "patch": "patch_size",
    "learning_rate": "lr lr0 base_lr peak_lr init_lr initial_learning_rate",
    "weight_decay": "wd decay_rate norm_weight_decay",
    "batch_size": "bs batch train_batch_size validation_batch_size per_device_train_batch_size global_batch_size",
    "total": "epochs num_epochs max_epochs total_epochs train_epochs "
    "max_steps total_steps num_steps num_train_epochs iterations steps_per_epoch",
    "precision": "amp amp_dtype dtype mixed_precision fp16 bf16 half",
    "optimizer": "optim opt optimiser",
    "name": "type optax_name model_name",
    "data": "dataset input train_data",
    "threads processes": "num_workers workers dataloader_num_workers num_parallel_calls",
    "host augment": "transform transforms train_transforms preprocess pp",
    "augment": "augmentation augmentations aug aa auto_augment",
    "model name": "arch architecture",
    "model": "backbone network net",
    "loss": "loss_fn criterion",
    "data_dir": "root path dataset_dir data_path",
    "image_size size": "img_size imgsz input_size resolution train_crop_size image_resolution",
    "clip_norm": "grad_clip clip_grad max_grad_norm gradient_clip_val "
    "grad_clip_norm clipnorm global_clipnorm clip_grad_norm",
    "warmup": "warmup_steps warmup_epochs lr_warmup_epochs warmup_ratio num_warmup_steps",
    "schedule": "lr_schedule scheduler lr_scheduler sched decay_type lr_scheduler_type",
    "drop_path": "stochastic_depth drop_path_rate stochastic_depth_prob stochdepth",
    "dropout": "drop drop_rate dropout_rate proj_drop",
    "ema": "ema_decay model_ema model_ema_decay",
    "accumulate": "grad_accum accum_steps grad_accum_steps gradient_accumulation_steps accumulate_grad_batches",
    "classes": "num_classes nc n_classes nb_classes",
    "temperature": "temp tau",
    "label_smoothing": "smoothing label_smooth",
    "b1": "beta1 beta_1 betas",
    "b2": "beta2 beta_2",
    "eps": "epsilon opt_eps adam_epsilon",
    "weights init": "checkpoint ckpt ckpt_path initial_checkpoint resume_from model_init",
    "init weights": "pretrained",
    "validation": "val valid eval dev",
    "every": "check_val_every_n_epoch val_check_interval eval_steps eval_every",
    "log_every": "log_every_n_steps log_steps log_interval log_training_steps logging_steps",
    "checkpoint_every": "ckpt_steps save_steps every_n_epochs save_period checkpoint_steps",
    "keep": "save_top_k save_total_limit keep_ckpt_steps max_to_keep",
    "mesh": "devices device num_devices num_nodes gpus",
    "pool": "pool_type global_pool pooling",
    "posemb": "pos_embed position_embedding",
    "workdir out": "output_dir logdir log_dir model_dir save_dir default_root_dir",
    "out": "output",
    "images": "source image_dir img_path input_dir",
    "top": "topk top_k k",
    "flip_lr": "randomhorizontalflip random_horizontal_flip horizontal_flip hflip fliplr randomflip random_flip flip",
    "flip_ud": "randomverticalflip random_vertical_flip vertical_flip vflip flipud",
    "random_resized_crop": "randomresizedcrop inception_crop decode_jpeg_and_inception_crop rrc",
    "central_crop": "centercrop center_crop",
    "random_crop": "randomcrop",
    "resize_short": "resize_small resize_min",
    "normalize": "value_range rescaling rescale imagenet_normalize",
    "color_jitter": "colorjitter colour_jitter jitter",
    "rotate": "randomrotation random_rotation degrees",
    "random_erasing": "randomerasing random_erase reprob",
    "gaussian_blur": "gaussianblur blur",
    "grayscale": "randomgrayscale random_grayscale greyscale",
    "decode": "decode_jpeg totensor to_tensor",
    "softmax_cross_entropy": "cross_entropy crossentropyloss crossentropy ce categorical_crossentropy softmax_xent",
    "sigmoid_cross_entropy": "bce bce_loss bcewithlogitsloss binary_crossentropy sigmoid_xent",
    "squared_error": "mse mseloss l2_loss",
    "cosine": "cosineannealinglr cosine_decay warmup_cosine cosine_annealing",
    "step": "multisteplr steplr multistep piecewise",
    "supervised": "classification classifier",
    "image_text": "clip siglip contrastive",
    "classify": "accuracy top1 classification_accuracy",
    "folder": "imagefolder image_folder image_folder_dataset",
    "webdataset": "wds",
    "parquet": "huggingface hf",
    "manifest": "csv jsonl",
    "imagenet2012": "imagenet imagenet1k ilsvrc2012",
    "sgd": "momentum",
    "resnet": "resnet18 resnet34 resnet50 resnet101",
    "vit": "vit_b_16 vit_base_patch16_224 deit",
}
SYNONYMS = {word: tuple(meant.split()) for meant, words in _CALLED.items() for word in words.split()}


class UserError(ValueError):
    """An error that the user can fix: a config key, a name, a path, a file.

    The command line prints its message without a traceback. Long values in the message are cut, so that every line
    stays readable (`readable`).

    Args:
      message: Text that says what is wrong, then what to do.
      status: Exit status of the command line, from `jaxvision.exits`.
    """

    def __init__(self, message: object = "", status: int = EXIT_USER_ERROR):
        super().__init__(readable(str(message)))
        self.status = status


def readable(message: str) -> str:
    """Cuts the lines of a message to `MAX_LINE` characters, by removing their middle.

    Args:
      message: Text of one or more lines.

    >>> len(readable("no file " + "a" * 20_000)) < 2000
    True
    """
    if len(message) <= MAX_LINE:
        return message
    return "\n".join(map(_cut, message.split("\n")))


def _cut(line: str) -> str:
    if len(line) <= MAX_LINE:
        return line
    kept = MAX_LINE - 100
    head, tail = line[: 2 * kept // 3], line[-kept // 3 :]
    return f"{head} ...({len(line) - len(head) - len(tail):,} characters)... {tail}"


def shown(value: object) -> str:
    """Returns the `repr` of a value, cut if it is too long for a message.

    Args:
      value: Value of any type.

    >>> shown("adam"), len(shown("a" * 20_000)) < 200
    ("'adam'", True)
    """
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of thousands of digits, or what is nested too deep
        return f"a {type(value).__name__} too long to be written"
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}... ({len(text):,} characters)"


def nearest(value: object, choices: Iterable[object]) -> str:
    """Returns `"; did you mean 'x'?"` for the closest of `choices`, or an empty string if none is close.

    Args:
      value: Unknown value.
      choices: Known values.

    >>> nearest("adamm", ["sgd", "adam"])
    "; did you mean 'adam'?"
    >>> nearest("lr", ["name", "learning_rate"])
    "; did you mean 'learning_rate'?"
    """
    match = closest(value, choices)
    return f"; did you mean {match!r}?" if match else ""


def closest(value: object, choices: Iterable[object]) -> str | None:
    """Returns the one of `choices` that was probably meant: a synonym of the value, or the nearest spelling.

    In dotted keys the last part may be the synonym: `optimizer.lr` is close to `optimizer.learning_rate`.

    Args:
      value: Unknown value.
      choices: Known values.

    Returns:
      The choice, or None if none is close.
    """
    names = [str(c) for c in choices]
    parent, dot, last = str(value)[: 10 * MAX_VALUE].rpartition(".")
    for meant in SYNONYMS.get(last.lower(), ()):
        same_parent = [name for name in names if name == f"{parent}{dot}{meant}"]
        if matches := same_parent or [name for name in names if name.rpartition(".")[2] == meant]:
            return matches[0]
    folded = {name.lower(): name for name in reversed(names)}
    match = difflib.get_close_matches(f"{parent}{dot}{last}".lower(), list(folded), n=1)
    return folded[match[0]] if match else None


def listed(value: object, choices: Iterable[object]) -> str:
    """Lists choices in words, the closest to `value` first, the others sorted; of many, only the dozen nearest to it.

    Args:
      value: Unknown value.
      choices: Known values.

    >>> listed("adamm", ["sgd", "lamb", "adam"])
    'adam, lamb, sgd'
    >>> listed("r7", [f"r{i}" for i in range(70)]).endswith("and 58 more")
    True
    >>> listed("depth", ["b10", "a", "b9"])
    'a, b9, b10'
    """
    names = sorted(dict.fromkeys(map(str, choices)), key=natural)
    best = closest(value, names)
    more = ""
    if len(names) > MAX_CHOICES:
        match = difflib.SequenceMatcher(b=str(value)[:MAX_VALUE].lower())

        def distance(name: str) -> tuple[bool, float]:
            match.set_seq1(name.lower())
            return name != best, -match.ratio()

        more = f" and {len(names) - MAX_CHOICES} more"
        names = sorted(sorted(names, key=distance)[:MAX_CHOICES], key=natural)
    return ", ".join(sorted(names, key=lambda name: name != best)) + more


def natural(name: str) -> list[str | int]:
    """Returns a key that sorts names by the letters and the numbers in them.

    Args:
      name: Name.

    >>> sorted(["resnet101", "resnet50", "8", "10"], key=natural)
    ['8', '10', 'resnet50', 'resnet101']
    """
    return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", name))]


def some(names: Iterable[object], most: int = 5, mark: str = ",") -> str:
    """Returns the first names of several in words, and how many there are besides.

    Args:
      names: Names.
      most: Number of names that are written.
      mark: Mark between two names.

    >>> some("abc"), some("abcdefgh")
    ('a, b, c', 'a, b, c, d, e and 3 more')
    """
    texts = list(map(str, names))
    more = f" and {len(texts) - most:,} more" if len(texts) > most else ""
    return f"{mark} ".join(texts[:most]) + more


def unknown(kind: str, value: object, choices: Iterable[object]) -> UserError:
    """Makes the error for a `value` that is not among `choices`.

    Args:
      kind: Kind of the value, such as "optimizer".
      value: Unknown value.
      choices: Known values.

    >>> str(unknown("optimizer", "adamm", ["sgd", "lamb", "adam"]))
    "unknown optimizer 'adamm'; did you mean 'adam'? Choices: adam, lamb, sgd"
    """
    names = [str(c) for c in choices]
    hint = nearest(value, names) or "."
    return UserError(f"unknown {kind} {shown(value)}{hint} Choices: {listed(value, names) or '(none)'}")


@contextlib.contextmanager
def reading_fields(what: str, fields: Mapping[str, object]) -> Iterator[None]:
    """Turns the KeyError of a missing field into an error that names the operation and the existing fields.

    Args:
      what: Operation that reads the fields, such as "augmentation mixup(0.2)".
      fields: Example or batch, by field name.

    Raises:
      UserError: If the block reads a field that does not exist.

    >>> batch = {"image": 0, "mask": 0}
    >>> with reading_fields("augmentation mixup(0.2)", batch):
    ...     batch["label"]
    Traceback (most recent call last):
    ...
    jaxvision.errors.UserError: augmentation mixup(0.2) needs the field 'label'; the fields are image, mask. ...
    """
    try:
        yield
    except KeyError as error:
        field = error.args[0] if error.args else None
        if not isinstance(field, str) or field in fields:
            raise
        names = ", ".join(
            name for name in fields if not name.startswith("/")
        )  # such as "/class_name", an internal field
        raise UserError(
            f"{what} needs the field {field!r}; the fields are {names}. data.fields chooses the fields that are read"
        ) from error
