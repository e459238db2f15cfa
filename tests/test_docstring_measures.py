"""What benchmarks/docstrings.py measures, on a small text."""

import ast

import docstrings
import pytest
import signatures

TEXT = '''"""A module."""
import jax
from typing import Any, overload


def scale(x: jax.Array, by: float, **options: Any) -> jax.Array:
    """Scales an image (Someone et al. 2020, eq. 1).

    Args:
        x: Images [b, h, w, c],
            in [0, 1].
        by: Factor.
        **options: as in `other`.

    Returns:
        The images, [b, h, w, c].

    Raises:
        ValueError: If the factor is negative.

    >>> 1 + 1
    2
    """
    if by < 0:  # a comment
        raise ValueError(by)
    return x * by


def bare(x: "jax.Array | None", rng: jax.Array, n, tables: dict[str, jax.Array]) -> None:
    # A comment of a line.
    raise KeyError(n)  # noqa: TRY003


def rethrow(error):
    try:
        pass
    except KeyError as error:
        raise error


@overload
def left_out(x): ...


def _private(x):
    raise ValueError


class Saver:
    """Saves.

    Args:
        path: File.

    Raises:
        OSError: If there is no such file.
    """

    path: Any

    def __init__(self, path):
        if not path:
            raise OSError(path)

    def __call__(self, image: jax.Array, n):
        raise ValueError

    def save(self, step):
        """Saves.

        Args:
            step: Number of the step.
        """

    def load(self):
        raise NotImplementedError


class Other:
    def save(self, step):
        """Implements the same method."""
'''


@pytest.fixture
def measures(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_some.py").write_text("def test_some(x): ...\n")
    (tmp_path / "some.py").write_text(TEXT)
    return docstrings.measure(tmp_path)


def names(share):
    return [offender.split(": ", 1)[1] for offender in share.offenders]


def test_measures_of_a_text(measures):
    assert measures.lines == [len(TEXT.splitlines())]
    assert names(measures.args) == ["bare: x, rng, n, tables", "rethrow: error"]
    assert measures.args.total == 6
    assert names(measures.raises) == ["bare"]
    assert measures.raises.total == 3
    assert names(measures.axes) == ["bare: x", "Saver.__call__: image"]
    assert measures.axes.total == 3
    assert measures.sources.total == measures.examples.total == 7
    assert len(measures.sources.offenders) == len(measures.examples.offenders) == 6
    assert names(measures.nouns) == ["options: as in `other`."]
    assert names(measures.any) == ["Saver.path: Any", "scale: options: Any"]
    assert measures.comments == 2
    table = docstrings.table({"some": measures})
    assert "| public functions that raise: `Raises:` says so | 2 of 3 (67 %) |" in table
    assert "begin with a preposition or a relative word | 1 of 5 |" in table


def test_lines_of_code_are_without_docstrings_and_comments(tmp_path):
    (tmp_path / "some.py").write_text(
        '"""Doc\n\nstring."""\n# why\nx = """a\nb"""\n\ny = [\n    1,  # one\n]  # noqa\n'
    )
    assert docstrings.count_lines(tmp_path / "some.py") == (5, 2)


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ("jax.Array", True),
        ("'np.ndarray | None'", True),
        ("tuple[jax.Array, int]", True),
        ("Callable[[jax.Array], int]", False),
        ("Mapping[str, jax.Array]", False),
        ("Float[Array, 'b n']", False),
    ],
)
def test_arrays_in_annotations(annotation, expected):
    assert signatures.has_array(ast.parse(annotation, mode="eval").body) is expected


def test_list_of_offenders(tmp_path, monkeypatch, capsys):
    (tmp_path / "some.py").write_text(TEXT)
    monkeypatch.setattr("sys.argv", ["docstrings.py", str(tmp_path), "--list", "raises"])
    docstrings.main()
    assert capsys.readouterr().out.endswith(": bare\n1 of 3\n")


def test_a_path_that_does_not_exist(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["docstrings.py", str(tmp_path / "absent")])
    with pytest.raises(SystemExit):
        docstrings.main()
    assert "absent does not exist: give the folder of a package" in capsys.readouterr().err
