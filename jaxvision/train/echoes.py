"""Silences what Orbax, TensorStore and asyncio print after a failed save, in addition to the error that they raise.

On a full disk the save of every array of a checkpoint fails. Orbax raises the first failure and closes its event loop.
The others are printed by its own log, by asyncio ("Task exception was never retrieved"), and by threads of TensorStore
that call the closed loop ("Event loop is closed"). The error that was raised says all of it in one line.
"""

import functools
import logging
import sys


@functools.cache
def silence() -> None:
    """Silences these messages in this process from now on."""
    logging.getLogger("absl").addFilter(lambda record: not (record.exc_info and "orbax" in record.pathname))
    logging.getLogger("asyncio").addFilter(lambda record: "exception was never retrieved" not in str(record.msg))
    shown = sys.unraisablehook

    def show(unraisable):
        if not _is_closed_loop(unraisable.exc_value):
            shown(unraisable)

    sys.unraisablehook = show


def _is_closed_loop(error: BaseException | None) -> bool:
    return isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
