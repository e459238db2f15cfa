"""Which parameters are decayed by default, and layer-wise learning rates."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxvision import paths
from jaxvision.errors import UserError, unknown
from jaxvision.specs import Registry

PyTree = Any

# Weight decay is for weights that multiply features. Biases, norm scales, positional embeddings and class tokens
# are few, do not make the function steeper in its inputs, and would only be drawn away from where they should be
# (Goodfellow et al. 2016, sec. 7.1; He et al. 2019, "Bag of tricks", sec. 3.1).
DECAY_RULES: paths.Rules = (
    (r"kernel$", 1.0),
    (r".*", 0.0),
)

NUMBERED = re.compile(r"(?:^|/)(?:block_|stage)(\d+)(?:/|$)")
INPUT = re.compile(
    r"(?:^|/)(?:embedding|pos_embedding|cls|distillation_token|registers|pre_norm|stem_(?:conv|norm)\d?)(?:/|$)"
)
HEAD = re.compile(r"(?:^|/)(?:distillation_)?head(?:/|$)")
OUTPUT = re.compile(
    r"(?:^|/)(?:(?:fc_)?norm|pool|pre_logits|projection|(?:distillation_)?head)(?:/|$)|^logit_(?:scale|bias)$"
)
TOWER = re.compile(r"^(\w+)_tower/")

freezings = Registry("value of init.freeze")


@freezings.register()
def backbone() -> Callable[[PyTree], list[str]]:
    """Everything but the head is frozen: a linear classifier on fixed features."""
    return lambda params: [name for name in paths.names(params) if not HEAD.search(name)]


@freezings.register()
def all_but_last(blocks: int) -> Callable[[PyTree], list[str]]:
    """Final norm, pooling, head, and the last `blocks` blocks of a transformer or stages of a ResNet are trained."""
    if not isinstance(blocks, int) or blocks < 0:
        raise UserError(f"all_but_last(k) wants a number of blocks of at least 0, not {blocks!r}")
    return lambda params: [name for name, from_top in _from_top(params).items() if from_top > blocks]


def freeze_rules(params: PyTree, spec: str) -> paths.Rules:
    """Rules for the `freeze` of an optimizer: which parameters are not trained.

    Args:
      params: any tree of parameters; only its paths are read.
      spec: "backbone" or "all_but_last(k)".

    Raises:
      UserError: another spec, more blocks than there are, or a parameter without a place among the layers.

    >>> freeze_rules({"head": 0, "stage1": 0, "stage2": 0, "stem_conv": 0}, "all_but_last(1)")
    (('^stage1$', True), ('^stem_conv$', True), ('.*', False))
    """
    calls = freezings.build(spec)
    if len(calls) != 1:
        raise UserError(f"init.freeze {spec!r} must be one call. Choices: backbone, all_but_last(2)")
    frozen = calls[0](params)
    if not frozen:
        raise UserError(f"init.freeze {spec!r} freezes nothing: the model has no more layers than that")
    return (*((f"^{re.escape(name)}$", True) for name in frozen), (".*", False))


def layer_decay(params: PyTree, decay: float | Mapping[str, float]) -> PyTree:
    """Learning-rate multipliers that fall geometrically from the head to the input.

    Of n blocks, block i (from 0) gets `decay ** (n - i)`; patch embedding, positions and class token,
    or the stem, `decay ** (n + 1)`; final norm, pooling, projection and head 1 (Bao et al. 2022, BEiT, and its
    code; Clark et al. 2020, ELECTRA). Blocks are found in the paths as `block_07` (ViT) or `stage3`
    (ResNet: all blocks of a stage share one multiplier). Of a model of two towers, each counts its own blocks.

    Args:
      params: any tree of parameters; only its paths are read.
      decay: ratio of the rates of neighbouring layers, in (0, 1]; or of each tower, {"image_tower": 0.75}, where the
        others have none.

    Returns:
      The same tree of floats.

    Raises:
      UserError: the ratio is out of range, or a parameter has no place in the order of layers, such
        as the stacked blocks of a scanned model.

    >>> layer_decay({"embedding": 0, "block_00": {"kernel": 0}, "block_01": {"kernel": 0}, "head": 0}, 0.5)
    {'block_00': {'kernel': 0.25}, 'block_01': {'kernel': 0.5}, 'embedding': 0.125, 'head': 1.0}
    """
    towers = dict.fromkeys(_tower(name) for name in paths.names(params))
    ratios = dict.fromkeys(towers, decay) if isinstance(decay, int | float) else dict(decay)
    for tower, ratio in ratios.items():
        if tower not in towers:
            raise unknown("tower in layer_decay", tower, towers)
        if not 0 < ratio <= 1:
            raise UserError(f"layer_decay must lie in (0, 1], not {ratio!r}")
    multipliers = [float(ratios.get(_tower(name), 1.0) ** exponent) for name, exponent in _from_top(params).items()]
    return jax.tree.unflatten(jax.tree.structure(params), multipliers)


def _tower(name: str) -> str:
    """The tower of a model of two that a parameter belongs to, else ""."""
    found = TOWER.search(name)
    return f"{found[1]}_tower" if found else ""


def _from_top(params: PyTree) -> dict[str, int]:
    """For the path of every parameter, how many layers its layer lies below the head (0: head, final norm, pooling)."""
    names = paths.names(params)
    numbered = {name: (_tower(name), int(found[1])) for name in names if (found := NUMBERED.search(name))}
    blocks = {tower: sorted({i for t, i in numbered.values() if t == tower}) for tower in map(_tower, names)}

    def exponent(name: str) -> int:
        if name in numbered:
            tower, number = numbered[name]
            return len(blocks[tower]) - blocks[tower].index(number)
        if OUTPUT.search(name):  # before the input: attention pooling may have positions of its own
            return 0
        if INPUT.search(name):
            return len(blocks[_tower(name)]) + 1
        raise UserError(
            f"layer_decay and init.freeze cannot place the parameter {name!r}: they know blocks (block_07, stage3), "
            "embeddings, stem, final norm, pooling and head. Use lr_rules or optimizer.freeze; a scanned model needs "
            "scan=False"
        )

    return {name: exponent(name) for name in names}
