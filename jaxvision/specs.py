"""Operations written as one string: `"random_crop(32, 4)|flip_lr|mixup(0.2)"`.

A spec is a chain of names or calls joined by `|`. It is read as a Python expression tree of which
only names, calls and literals are accepted, so a spec from a config file or from the command line
cannot run code. A `Registry` holds the operations that a spec may name.
"""

import ast
import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from jaxvision import arguments
from jaxvision.errors import UserError, shown, unknown


class Call(NamedTuple):
    """One operation of a spec: `name(*args, **kwargs)`."""

    name: str
    args: tuple = ()
    kwargs: dict[str, Any] = {}

    def __str__(self) -> str:
        words = [_literal(a) for a in self.args] + [f"{k}={_literal(v)}" for k, v in self.kwargs.items()]
        return f"{self.name}({', '.join(words)})" if words else self.name


def _literal(value: Any) -> str:
    """A value as a spec has it: the numbers of NumPy, whose `repr` is none, as those of Python."""
    if isinstance(value, tuple | list):
        return repr(type(value)(map(_plain, value)))
    return repr(_plain(value))


def _plain(value: Any) -> Any:
    # By name, for a job that is only watched must not import NumPy; a traced number has no value to take.
    return value.item() if type(value).__module__ == "numpy" and value.ndim == 0 else value


MAX_LENGTH, MAX_CALLS = 100_000, 1000  # characters and operations of a spec
NONE = "none"  # the operation that is none: how a spec without operations is written


def parse(spec: str | list[Call]) -> list[Call]:
    """Reads a spec into its calls. An empty spec and "none" are an empty list; a list of calls is taken as it is.

    Raises:
      UserError: the text is not a chain of names and calls with literal arguments.

    >>> parse("flip_lr|resize(32, method='area')")
    [Call(name='flip_lr', args=(), kwargs={}), Call(name='resize', args=(32,), kwargs={'method': 'area'})]
    """
    if isinstance(spec, list) and all(isinstance(call, Call) for call in spec):
        return spec
    if not isinstance(spec, str):
        raise UserError(f"a spec is a string like 'op(1)|op(2)', not {shown(spec)}")
    if not spec.strip():
        return []
    if len(spec) > MAX_LENGTH:
        raise UserError(f"a spec has at most {MAX_LENGTH:,} characters, not {len(spec):,}: {shown(spec)}")
    try:
        tree = ast.parse(spec.strip(), mode="eval").body
    except SyntaxError as error:
        if re.search(r"^\s*\||\|\s*(?:\||$)", spec):
            raise UserError(
                f"cannot read the spec {shown(spec)}: an operation is missing beside a '|', which stands between two"
            ) from None
        column = f" at column {error.offset}" if error.offset else ""
        raise UserError(f"cannot read the spec {shown(spec)}: {error.msg}{column}") from None
    except (ValueError, RecursionError, MemoryError):
        raise UserError(
            f"cannot read the spec {shown(spec)}: it holds a character that is no text, or is nested too deep"
        ) from None
    links = []
    while isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.BitOr):
        links.append(tree.right)
        tree = tree.left
    if len(links) >= MAX_CALLS:
        raise UserError(f"a spec has at most {MAX_CALLS:,} operations, not {len(links) + 1:,}: {shown(spec)}")
    calls = [_call(node, spec) for node in [tree, *reversed(links)]]
    return [call for call in calls if call != Call(NONE)]


def _call(node: ast.expr, spec: str) -> Call:
    if isinstance(node, ast.Name):
        return Call(node.id, (), {})
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        raise UserError(
            f"cannot read {_source(node)} in the spec {shown(spec)}: want a name or a call, like 'resize(32)'"
        )
    try:
        args = tuple(ast.literal_eval(a) for a in node.args)
        kwargs = {k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg is not None}
        repr((args, kwargs))  # a ValueError where a number has thousands of digits, which nothing can take or show
    except (ValueError, TypeError, RecursionError, MemoryError):  # TypeError: a set or dict of what has no hash
        args = kwargs = None
    if kwargs is None or len(kwargs) < len(node.keywords):
        raise UserError(
            f"the arguments of {_source(node)} in the spec {shown(spec)} must be literals: numbers, strings, tuples"
        )
    return Call(node.func.id, args, kwargs)


def _source(node: ast.expr) -> str:
    try:
        return shown(ast.unparse(node))
    except (ValueError, RecursionError):
        return "a part"


class Registry:
    """The operations that one kind of spec may name.

    An operation is a factory: called with the arguments written in the spec, it returns the
    function that does the work. An operation that draws random numbers says what stands in its
    place when a model is evaluated: `evaluation=""` for nothing, or a function of the same
    arguments that returns another spec.
    """

    def __init__(self, kind: str):
        self.kind = kind
        self.factories: dict[str, Callable] = {}
        self._evaluation: dict[str, str | Callable[..., str]] = {}

    def register(self, evaluation: str | Callable[..., str] | None = None) -> Callable:
        """Decorates a factory; its function name is its name in specs."""

        def decorate(factory: Callable) -> Callable:
            self.factories[factory.__name__] = factory
            if evaluation is not None:
                self._evaluation[factory.__name__] = evaluation
            return factory

        return decorate

    def build(self, spec: str) -> list[Callable]:
        """Builds every operation of `spec`, in order.

        Raises:
          UserError: an unknown name, or arguments that do not fit the operation's signature and its annotations.
        """
        return [self._build(call) for call in parse(spec)]

    def named(self, call: Call) -> Call:
        """The call with every argument under its name, those left at their defaults too.

        Raises:
          UserError: as `build`.
        """
        bound = self._bind(call)
        bound.apply_defaults()
        return Call(call.name, (), dict(bound.arguments))

    def _build(self, call: Call) -> Callable:
        bound = self._bind(call)
        return self._find(call)(*bound.args, **bound.kwargs)

    def _bind(self, call: Call) -> inspect.BoundArguments:
        factory = self._find(call)
        how = arguments.usage(factory, call.name)
        return arguments.bind(factory, f"{self.kind} {shown(str(call))}", call.args, call.kwargs, how)

    def _find(self, call: Call) -> Callable:
        if call.name not in self.factories:
            raise unknown(self.kind, call.name, self.factories)
        return self.factories[call.name]

    def is_random(self, spec: str) -> bool:
        """True if any operation of `spec` draws random numbers: one that evaluation would drop or replace."""
        return any(self._in_evaluation(call) != str(call) for call in parse(spec))

    def evaluation(self, spec: str) -> str:
        """The spec that an evaluation uses by default: `spec` with its random operations replaced."""
        parts = [self._in_evaluation(call) for call in parse(spec)]
        return "|".join(p for p in parts if p)

    def _in_evaluation(self, call: Call) -> str:
        bound = self._bind(call)  # arguments are checked even where the operation is dropped
        instead = self._evaluation.get(call.name, str(call))
        return instead(*bound.args, **bound.kwargs) if callable(instead) else instead
