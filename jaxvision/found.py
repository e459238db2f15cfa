"""The earlier name of `jaxvision.registry`, for users' parts that still import `part` from here."""

from jaxvision.registry import PartRegistry, declaration, part

__all__ = ["PartRegistry", "declaration", "part"]
