"""Maps of an instrument by its name, for what tests instruments: `randomised`, and the evaluator `pointing`."""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaxvision import calls, explain, specs
from jaxvision.errors import UserError
from jaxvision.explain.base import Explanation, Subject


def check_call(call: specs.Call, where: str) -> Callable[..., Explanation]:
    """Checks the name and the options of an instrument.

    Args:
      call: Name and options.
      where: Place of the call, for messages: "--what".

    Returns:
      The instrument, a function `(subject, **options)`.

    Raises:
      UserError: The instrument or an option is unknown or has a wrong value.
    """
    make = explain.get_explanation(call.name)
    if call.args:
        raise UserError(f"{where}: write the options of {call.name} by name, {call.name}(option=value), not {call}")
    calls.check(make, call.kwargs, calls.Options(f"explanation {call.name!r}"), program=("subject",))
    return make


def read_map_maker(of: str) -> tuple[Callable[..., Explanation], dict[str, Any]]:
    """Reads an instrument that makes one map for each image.

    Args:
      of: Name and options, such as "gradient" or "gradcam(layer='stages/1')".

    Returns:
      The instrument and its options.

    Raises:
      UserError: `of` is not one instrument, an option is wrong, or the instrument makes no map for each image.
    """
    found = specs.parse(of)
    if len(found) != 1:
        raise UserError(f"of={of!r} must name one instrument, such as 'gradient' or \"gradcam(layer='stages/1')\"")
    make = check_call(found[0], "of")
    if not explain.EXPLANATIONS.more(make, "maps", False):
        able = [name for name, one in explain.EXPLANATIONS.items() if explain.EXPLANATIONS.more(one, "maps", False)]
        raise UserError(f"of={of!r} makes no map for each image. Instruments that do: {', '.join(able)}")
    return make, dict(found[0].kwargs)


def why_no_maps(subject: Subject, of: str) -> str | None:
    """Returns why an instrument cannot make maps of a subject, as the end of a sentence; None if it can.

    Args:
      subject: Subject.
      of: Name and options of the instrument.

    Raises:
      UserError: `of` is wrong, see `read_map_maker`.
    """
    make, options = read_map_maker(of)
    refuses = explain.EXPLANATIONS.more(make, "refuses")
    return None if refuses is None else refuses(subject, **options)


def make_maps(subject: Subject, of: str) -> Callable[[Subject], np.ndarray]:
    """Returns the function that makes the maps of an instrument.

    An option whose default depends on the weights, such as the layer of Grad-CAM, is chosen for the given subject and
    kept, so that maps of other weights or images can be compared.

    Args:
      subject: Subject for which the options are chosen.
      of: Name and options of the instrument.

    Returns:
      Function from a subject with n images to its maps, float [n, h', w'].

    Raises:
      UserError: `of` is wrong, see `read_map_maker`.
    """
    make, options = read_map_maker(of)
    if settles := explain.EXPLANATIONS.more(make, "settles"):
        options |= settles(subject, **options)

    def maps(other: Subject) -> np.ndarray:
        return np.asarray(make(other, **options).summary)

    return maps
