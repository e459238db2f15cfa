"""What Orbax, TensorStore and asyncio print of a failed save, beside the error that they raise.

A full disk fails every array of a checkpoint. Orbax raises the first failure, closes its event loop, and leaves the
others to whoever still tells of them: its own log, asyncio's ("Task exception was never retrieved"), and threads of
TensorStore that call the closed loop ("Event loop is closed"). The error that was raised says it in one line.
"""

import functools
import logging
import sys


@functools.cache
def silence() -> None:
    """Keeps them from the console, in this process, from now on."""
    logging.getLogger("absl").addFilter(lambda record: not (record.exc_info and "orbax" in record.pathname))
    logging.getLogger("asyncio").addFilter(lambda record: "exception was never retrieved" not in str(record.msg))
    shown = sys.unraisablehook

    def show(unraisable):
        if not _is_closed_loop(unraisable.exc_value):
            shown(unraisable)

    sys.unraisablehook = show


def _is_closed_loop(error: BaseException | None) -> bool:
    return isinstance(error, RuntimeError) and str(error) == "Event loop is closed"
