"""Which parameters are decayed by default, and layer-wise learning rates."""

import re
from typing import Any

import jax

from jaxvision import paths
from jaxvision.errors import UserError

PyTree = Any

# Weight decay is for weights that multiply features. Biases, norm scales, positional embeddings and class tokens
# are few, do not make the function steeper in its inputs, and would only be drawn away from where they should be
# (Goodfellow et al. 2016, sec. 7.1; He et al. 2019, "Bag of tricks", sec. 3.1).
DECAY_RULES: paths.Rules = (
    (r"kernel$", 1.0),
    (r".*", 0.0),
)

NUMBERED = re.compile(r"(?:^|/)(?:block_|stage)(\d+)(?:/|$)")
INPUT = re.compile(r"(?:^|/)(?:embedding|pos_embedding|cls|stem_conv|stem_norm)(?:/|$)")
OUTPUT = re.compile(r"(?:^|/)(?:norm|pool|head)(?:/|$)")


def layer_decay(params: PyTree, decay: float) -> PyTree:
    """Learning-rate multipliers that fall geometrically from the head to the input.

    Of n blocks, block i (from 0) gets `decay ** (n - i)`; patch embedding, positions and class token,
    or the stem, `decay ** (n + 1)`; final norm, pooling and head 1 (Bao et al. 2022, BEiT, and its
    code; Clark et al. 2020, ELECTRA). Blocks are found in the paths as `block_07` (ViT) or `stage3`
    (ResNet: all blocks of a stage share one multiplier).

    Args:
      params: any tree of parameters; only its paths are read.
      decay: ratio of the rates of neighbouring layers, in (0, 1].

    Returns:
      The same tree of floats.

    Raises:
      UserError: the ratio is out of range, or a parameter has no place in the order of layers, such
        as the stacked blocks of a scanned model.

    >>> layer_decay({"embedding": 0, "block_00": {"kernel": 0}, "block_01": {"kernel": 0}, "head": 0}, 0.5)
    {'block_00': {'kernel': 0.25}, 'block_01': {'kernel': 0.5}, 'embedding': 0.125, 'head': 1.0}
    """
    if not 0 < decay <= 1:
        raise UserError(f"layer_decay must lie in (0, 1], not {decay!r}")
    names = paths.names(params)
    numbered = {name: int(found[1]) for name in names if (found := NUMBERED.search(name))}
    blocks = sorted(set(numbered.values()))
    from_top = {number: len(blocks) - i for i, number in enumerate(blocks)}

    def exponent(name: str) -> int:
        if name in numbered:
            return from_top[numbered[name]]
        if INPUT.search(name):
            return len(blocks) + 1
        if OUTPUT.search(name):
            return 0
        raise UserError(
            f"layer_decay cannot place the parameter {name!r}: it knows blocks (block_07, stage3), embeddings, stem, "
            "final norm, pooling and head. Use lr_rules instead; a scanned model needs scan=False"
        )

    return jax.tree.unflatten(jax.tree.structure(params), [float(decay ** exponent(name)) for name in names])
