"""What is logged while a command runs: each warning once, and of some loggers errors only."""

import contextlib
import logging
from collections.abc import Iterator


class _Once(logging.Filter):
    """Drops records whose text has come before."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[tuple[str, str]] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        text = (record.levelname, record.getMessage())
        new = text not in self._said
        self._said.add(text)
        return new


@contextlib.contextmanager
def each_once() -> Iterator[None]:
    """Returns a context in which each warning is printed once, although a set is opened for training and evaluations.

    >>> import io
    >>> handler = logging.StreamHandler(text := io.StringIO())
    >>> logging.root.addHandler(handler)
    >>> with each_once():
    ...     for _ in range(3):
    ...         logging.getLogger("jaxvision").warning("2 files are not read")
    >>> logging.root.removeHandler(handler)
    >>> text.getvalue()
    '2 files are not read\\n'
    """
    # The handler of the last resort prints where a program has set up no logging.
    handlers = [handler for handler in (*logging.root.handlers, logging.lastResort) if handler is not None]
    filters = [(handler, _Once()) for handler in handlers]
    for handler, once in filters:
        handler.addFilter(once)
    try:
        yield
    finally:
        for handler, once in filters:
            handler.removeFilter(once)


@contextlib.contextmanager
def errors_only(name: str) -> Iterator[None]:
    """Returns a context in which a logger, and those below it, log errors only.

    Args:
      name: Name of the logger.
    """
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
