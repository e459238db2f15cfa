"""Several sources in one stream, each with its share."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxvision import registry
from jaxvision.data import sources, subsets
from jaxvision.data.sources.base import Info, Source, label_field
from jaxvision.data.sources.files import Rows
from jaxvision.errors import UserError
from jaxvision.fields import Field

BLOCK = 1000  # number of consecutive positions in which every part has its exact share
_STREAM = (0, 0, 0, 2)  # a Philox counter that neither `order` nor draws of host operations reach


@registry.part("data set", "mixture")
def open_mixture(
    data_dir: str | Path | None, split: str, fields: Sequence[str] | None = None, **parts: Mapping[str, Any]
) -> Source:
    """Opens a mixture of sources.

    Args:
      data_dir: Folder of parts that give none themselves.
      split: Split of the mixture in the syntax of TFDS, such as `train[:90%]`.
      fields: Names of the fields to read; None for all.
      **parts: Sections by the name of the part: `name`, and optionally `split`, `data_dir`, `options`, `subset`,
        `weight`.

    Raises:
      UserError: A section has no `name`, or a value in it does not fit.
    """
    opened, weights = {}, {}
    for part, section in parts.items():
        where = f"the part {part!r} of the mixture"
        if "name" not in section:
            kinds = ", ".join(sources.KINDS)
            raise UserError(f"{where} has no name, the kind of its source. Choices: {kinds}, or a TFDS name")
        sources.check_options(where, section, _open_part)
        opened[part] = _open_part(where, split, fields, **{"data_dir": data_dir, **section})
        weights[part] = section.get("weight", 1.0)
    return Mixture(opened, split, weights)


def _open_part(
    where: str,
    mixture_split: str,
    fields: Sequence[str] | None,
    *,
    name: str,
    split: str | Mapping[str, str] | None = None,
    data_dir: str | None = None,
    options: Mapping[str, Any] | None = None,
    subset: Mapping[str, int] | None = None,
    weight: float = 1.0,
) -> Source:
    splits = {"train": split} if isinstance(split, str) else split
    if splits is not None and mixture_split not in splits:
        raise UserError(
            f"{where} does not say what its split {mixture_split!r} is, only {', '.join(splits)}: "
            "give split=dict(train=..., validation=...)"
        )
    part_split = mixture_split if splits is None else splits[mixture_split]
    source = sources.open_source(name, part_split, data_dir=data_dir, options=options, fields=fields)
    return source if subset is None else subsets.take(source, **dict[str, Any](subset))


class Mixture(Source):
    """The examples of all parts, one part after the other; its training stream takes them by weight.

    Positions `[k * BLOCK, (k + 1) * BLOCK)` of the stream hold `block_shares(weights)[i]` examples of part i, in an
    order that is a function of (seed, k). Each part runs through its own stream, for most sources shuffled epochs, so
    its examples come equally often.

    Args:
      parts: Sources by name.
      split: Text of the split, for `info`.
      weights: Positive numbers by the same names; only their ratio counts.

    Raises:
      UserError: There is no part, a weight is so small that its share of a block is nothing, or the classes differ.
    """

    def __init__(self, parts: Mapping[str, Source], split: str, weights: Mapping[str, float]):
        self._parts = tuple(parts.values())
        self._shares = block_shares([weights[name] for name in parts])
        for name, share in zip(parts, self._shares):
            if share == 0:
                raise UserError(f"the part {name!r} of the mixture has a weight of under 1/{BLOCK}: {weights[name]}")
        pieces = [(source, len(source)) for source in self._parts]
        self._rows = Rows([("", 0, sum(map(len, self._parts)))], {"": pieces})
        self._starts = np.cumsum([0, *map(len, self._parts)])
        self.info = _info(parts, split)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        source, row = self._rows[index]
        return source[row]

    def describe(self, index: int) -> str:
        source, row = self._rows[index]
        return source.describe(row)

    def order(self, seed: int, start: int, stop: int) -> np.ndarray:
        """Returns the examples at these positions of the mixed stream, int64 [stop - start]; see `Source.order`."""
        chosen = np.empty(stop - start, np.int64)
        for block in range(start // BLOCK, -(-stop // BLOCK)):
            begin, end = max(start - block * BLOCK, 0), min(stop - block * BLOCK, BLOCK)
            part, nth = (x[begin:end] for x in _block(seed, block, self._shares))
            into = chosen[block * BLOCK + begin - start :][: end - begin]
            for i in np.unique(part):
                here = part == i
                # Within a block the examples of a part are in the order of its stream, so these are consecutive.
                first = block * self._shares[i] + nth[here][0]
                rows = self._parts[i].order(_part_seed(seed, int(i)), first, first + here.sum())
                into[here] = rows + self._starts[i]
        return chosen

    def _read_labels(self) -> np.ndarray:
        return np.concatenate([source.labels for source in self._parts])


def block_shares(weights: list[float]) -> tuple[int, ...]:
    """Divides `BLOCK` in the ratio of the weights, by largest remainders.

    Args:
      weights: Positive numbers.

    Raises:
      UserError: There is no weight, or one is not positive.

    >>> block_shares([2, 1])
    (667, 333)
    """
    if not weights or min(weights) <= 0:
        raise UserError(f"a mixture has one part or more, with weights above 0, not {weights}")
    exact = BLOCK * np.asarray(weights, np.float64) / np.sum(weights)
    counts = np.floor(exact).astype(int)
    counts[np.argsort(counts - exact, kind="stable")[: BLOCK - counts.sum()]] += 1
    return tuple(counts.tolist())


@functools.lru_cache(maxsize=64)
def _block(seed: int, block: int, counts: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Returns for each position of a block its part, and the number of earlier positions of that part in the block."""
    rng = np.random.Generator(np.random.Philox(key=[seed, block], counter=_STREAM))
    part = rng.permutation(np.repeat(np.arange(len(counts)), counts))
    nth = np.empty(BLOCK, np.int64)
    nth[np.argsort(part, kind="stable")] = np.concatenate([np.arange(count) for count in counts])
    return part, nth


@functools.lru_cache(maxsize=1024)
def _part_seed(seed: int, part: int) -> int:
    return int(np.random.SeedSequence([seed, part]).generate_state(1, np.uint64)[0])


def _info(parts: Mapping[str, Source], split: str) -> Info:
    infos = {name: source.info for name, source in parts.items()}
    name, examples = "+".join(parts), sum(info.num_examples for info in infos.values())
    (first, reference), *others = infos.items()
    if any(info.num_classes is None for info in infos.values()):
        return Info(name, split, examples, (), None, fields=_common(parts, Info(name, split, examples, (), None)))
    for other, info in others:
        if (info.num_classes, info.multi_label) != (reference.num_classes, reference.multi_label):
            raise UserError(
                f"the parts {first!r} and {other!r} of the mixture differ in their classes: "
                f"{reference.num_classes} and {info.num_classes}"
            )
        if info.classes and reference.classes and info.classes != reference.classes:
            a, b = next((a, b) for a, b in zip(reference.classes, info.classes) if a != b)
            raise UserError(
                f"the parts {first!r} and {other!r} of the mixture differ in their classes: {a!r} and {b!r}. "
                "Give both one list with the option classes"
            )
    names = next((info.classes for info in infos.values() if info.classes), ())
    info = reference._replace(name=name, split=split, num_examples=examples, classes=names)
    return info._replace(fields=_common(parts, info))


def _common(parts: Mapping[str, Source], info: Info) -> dict[str, Field]:
    """Returns the fields that all parts have; lengths in which parts differ are None. The label is the mixture's."""
    first, *others = (source.fields for source in parts.values())
    common = {}
    for name, field in first.items():
        same = [other[name] for other in others if name in other and other[name].kind == field.kind]
        if len(same) < len(others):
            continue
        if name == "label":
            if info.num_classes is not None:
                common[name] = label_field(info.num_classes, info.classes, info.multi_label)
            continue
        if any(len(other.shape) != len(field.shape) for other in same):
            continue
        shape = tuple(n if all(other.shape[i] == n for other in same) else None for i, n in enumerate(field.shape))
        dtype = field.dtype if all(other.dtype == field.dtype for other in same) else _dtype([field, *same])
        common[name] = field._replace(shape=shape, dtype=dtype)
    return common


def _dtype(fields: Sequence[Field]) -> str:
    """Returns the dtype of a field in which parts differ: bytes if one is encoded, else one that fits all numbers."""
    dtypes = [field.dtype for field in fields]
    return "bytes" if "bytes" in dtypes else str(np.result_type(*dtypes))
