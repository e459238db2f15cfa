"""Sizes of transformers by name: Ti, S, B, ..., the same for images and for text."""

from typing import NamedTuple

from jaxvision.errors import UserError, shown
from jaxvision.models.options import one_of, positive


class Size(NamedTuple):
    """Size of a transformer.

    Attributes:
      width: Dimension d of tokens.
      depth: Number of blocks.
      mlp_dim: Number of hidden units of the MLP.
      num_heads: Number of attention heads.
    """

    width: int
    depth: int
    mlp_dim: int
    num_heads: int


# Dosovitskiy et al. 2021, table 1; Ti and S: Touvron et al. 2021, table 1; g and G: Zhai et al. 2022, table 2;
# So400m: Alabdulmohsin et al. 2023; mu, for tests, and M: big_vision.
SIZES = {
    "mu": Size(32, 1, 128, 2),
    "Ti": Size(192, 12, 768, 3),
    "S": Size(384, 12, 1536, 6),
    "M": Size(512, 12, 2048, 8),
    "B": Size(768, 12, 3072, 12),
    "L": Size(1024, 24, 4096, 16),
    "So400m": Size(1152, 27, 4304, 16),
    "H": Size(1280, 32, 5120, 16),
    "g": Size(1408, 40, 6144, 16),
    "G": Size(1664, 48, 8192, 16),
}


def described(patch: int | None = None) -> dict[str, str]:
    """Describes each size in words, for `jaxvision list variants`.

    Args:
      patch: Side of a patch in pixels, an example that is added to the names; None for a model of texts.

    >>> described(16)["S/16"]
    '12 blocks; 384 wide; 6 heads; MLP of 1,536 units; patches of 16 pixels, or any'
    """
    return {
        (name if patch is None else f"{name}/{patch}"): f"{s.depth} blocks; {s.width:,} wide; {s.num_heads} heads; "
        f"MLP of {s.mlp_dim:,} units" + ("" if patch is None else f"; patches of {patch} pixels, or any")
        for name, s in SIZES.items()
    }


def split_variant(kind: str, variant: str) -> tuple[str, int]:
    """Splits a variant, "SIZE/PATCH", into the name of its size and the side of its patches in pixels.

    Args:
      kind: Name of the model, for the message.
      variant: Size and patch side, as in "S/16".

    Raises:
      UserError: A patch side that is not a positive integer.

    >>> split_variant("ViT", "S/16")
    ('S', 16)
    """
    size, _, patch = str(variant).partition("/")
    if not (patch.isdecimal() and len(patch) < 6 and int(patch) > 0):
        raise UserError(f"a {kind} variant is a size and a patch side in pixels, like 'S/16', not {shown(variant)}")
    return size, int(patch)


def transformer_size(
    kind: str,
    name: str,
    width: int | None = None,
    depth: int | None = None,
    mlp_dim: int | None = None,
    num_heads: int | None = None,
) -> Size:
    """Returns a size by name, with some of its numbers replaced.

    Args:
      kind: Name of the model, for the message.
      name: Key of `SIZES`.
      width: Dimension of tokens; None for the size's own. A width also sets `mlp_dim` to four times as much.
      depth: Number of blocks; None for the size's own.
      mlp_dim: Number of hidden units of the MLP; None for four times `width` if that is given, else the size's own.
      num_heads: Number of attention heads; None for the size's own.

    Raises:
      UserError: An unknown name, a number below 1, or heads that do not divide the width.

    >>> transformer_size("ViT", "S", width=256, num_heads=4)
    Size(width=256, depth=12, mlp_dim=1024, num_heads=4)
    """
    size = SIZES[one_of(f"{kind} size", name, SIZES)]
    if width is not None:
        size = size._replace(width=width, mlp_dim=4 * width)
    overrides = {"depth": depth, "mlp_dim": mlp_dim, "num_heads": num_heads}
    size = size._replace(**{option: value for option, value in overrides.items() if value is not None})
    for option, value in size._asdict().items():
        positive(option, value)
    if size.width % size.num_heads:
        raise UserError(
            f"a {kind}'s width must be a multiple of num_heads, and {size.width} is not of {size.num_heads}"
        )
    return size
