"""The one error a user may cause, and how it is worded: the thing, the value, the nearest match, the choices."""

import contextlib
import difflib
from collections.abc import Iterable, Iterator, Mapping

MAX_CHOICES = 12  # named in a message; a misspelt run of a study has seventy
MAX_VALUE = 120  # characters of a value that a message repeats

# What people write who come from other libraries -> what it is called here.
SYNONYMS = {
    "lr": ("learning_rate",),
    "base_lr": ("learning_rate",),
    "wd": ("weight_decay",),
    "bs": ("batch_size",),
    "batch": ("batch_size",),
    "epochs": ("total",),
    "num_epochs": ("total",),
    "max_epochs": ("total",),
    "max_steps": ("total",),
    "num_steps": ("total",),
    "iterations": ("total",),
    "amp": ("precision",),
    "dtype": ("precision",),
    "optim": ("optimizer",),
    "opt": ("optimizer",),
    "dataset": ("data",),
    "num_workers": ("threads", "processes"),
    "workers": ("threads", "processes"),
    "transform": ("host", "augment"),
    "transforms": ("host", "augment"),
    "augmentation": ("augment",),
    "arch": ("model", "name"),
    "backbone": ("model",),
    "network": ("model",),
    "loss_fn": ("loss",),
    "criterion": ("loss",),
    "root": ("data_dir",),
    "path": ("data_dir",),
    "img_size": ("image_size", "size"),
    "grad_clip": ("clip_norm",),
    "clip_grad": ("clip_norm",),
    "max_grad_norm": ("clip_norm",),
    "warmup_steps": ("warmup",),
    "warmup_epochs": ("warmup",),
    "lr_schedule": ("schedule",),
    "scheduler": ("schedule",),
    "drop_path": ("stochastic_depth",),
    "drop_path_rate": ("stochastic_depth",),
    "ema_decay": ("ema",),
    "grad_accum": ("accumulate",),
    "accum_steps": ("accumulate",),
    "num_classes": ("classes",),
    "temp": ("temperature",),
    "smoothing": ("label_smoothing",),
    "checkpoint": ("weights", "init"),
    "pretrained": ("init", "weights"),
    "val": ("validation",),
    "valid": ("validation",),
}


class UserError(ValueError):
    """Something the user can mend: a config key, a name, a path, a file.

    The command line prints its message without a traceback and exits with status 2.
    """


def shown(value: object) -> str:
    """The `repr` of a value, cut where it is too long for a message.

    >>> shown("adam"), len(shown("a" * 20_000)) < 200
    ("'adam'", True)
    """
    text = repr(value)
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}... ({len(text):,} characters)"


def nearest(value: object, choices: Iterable[object]) -> str:
    """Returns `"; did you mean 'x'?"` for the closest of `choices`, or an empty string.

    >>> nearest("adamm", ["sgd", "adam"])
    "; did you mean 'adam'?"
    >>> nearest("lr", ["name", "learning_rate"])
    "; did you mean 'learning_rate'?"
    """
    match = closest(value, choices)
    return f"; did you mean {match!r}?" if match else ""


def closest(value: object, choices: Iterable[object]) -> str | None:
    """The one of `choices` that was probably meant by `value`: a synonym of it, or what is spelt most like it.

    Of dotted keys the last word may be the synonym: `optimizer.lr` is near to `optimizer.learning_rate`.
    """
    names = [str(c) for c in choices]
    parent, dot, last = str(value)[: 10 * MAX_VALUE].rpartition(".")
    for meant in SYNONYMS.get(last.lower(), ()):
        same_parent = [name for name in names if name == f"{parent}{dot}{meant}"]
        if found := same_parent or [name for name in names if name.rpartition(".")[2] == meant]:
            return found[0]
    folded = {name.lower(): name for name in reversed(names)}
    match = difflib.get_close_matches(f"{parent}{dot}{last}".lower(), list(folded), n=1)
    return folded[match[0]] if match else None


def listed(value: object, choices: Iterable[object]) -> str:
    """The choices in words: what was probably meant first; of many, the dozen that are spelt most like `value`.

    >>> listed("adamm", ["sgd", "lamb", "adam"])
    'adam, lamb, sgd'
    >>> listed("r7", [f"r{i}" for i in range(70)]).endswith("and 58 more")
    True
    """
    names = sorted(dict.fromkeys(map(str, choices)), key=_natural)
    best = closest(value, names)
    if len(names) > MAX_CHOICES:
        match = difflib.SequenceMatcher(b=str(value)[:MAX_VALUE].lower())

        def distance(name: str) -> tuple[bool, float]:
            match.set_seq1(name.lower())
            return name != best, -match.ratio()

        kept = sorted(names, key=distance)[:MAX_CHOICES]
        return ", ".join(kept) + f" and {len(names) - MAX_CHOICES} more"
    return ", ".join(sorted(names, key=lambda name: name != best))


def _natural(name: str) -> tuple[float, str]:
    return (int(name), name) if name.isdecimal() else (float("inf"), name)


def unknown(kind: str, value: object, choices: Iterable[object]) -> UserError:
    """The error for a `value` that is none of `choices`.

    >>> str(unknown("optimizer", "adamm", ["sgd", "lamb", "adam"]))
    "unknown optimizer 'adamm'; did you mean 'adam'? Choices: adam, lamb, sgd"
    """
    names = [str(c) for c in choices]
    hint = nearest(value, names) or "."
    return UserError(f"unknown {kind} {shown(value)}{hint} Choices: {listed(value, names) or '(none)'}")


@contextlib.contextmanager
def reading_fields(what: str, fields: Mapping[str, object]) -> Iterator[None]:
    """Turns the KeyError of a missing field into one error: which operation wants it, and which fields there are.

    Args:
      what: reads the fields, such as "augmentation mixup(0.2)".
      fields: an example or a batch, by field name.

    Raises:
      UserError: a field that is not there was read inside.

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
        names = ", ".join(name for name in fields if not name.startswith("/"))  # "/class_name" is no set's own
        raise UserError(
            f"{what} needs the field {field!r}; the fields are {names}. data.fields says what is read of an example"
        ) from error
