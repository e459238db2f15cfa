"""Values of configs and specs: plain, and of the kind that is wanted."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.errors import UserError
from jaxvision.values import fit, plain


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int32(7), 7),
        (np.uint8(7), 7),
        (np.float32(0.1), 0.1),
        (np.float64(1e-3), 1e-3),
        (np.bool_(False), False),
        (np.str_("adam"), "adam"),
        (np.array(3), 3),
        (np.array([[1, 2], [3, 4]]), ((1, 2), (3, 4))),
        (jnp.float32(0.5), 0.5),
        ([1, [2, "x"]], (1, (2, "x"))),
        (Path("runs") / "a", "runs/a"),
        ({"a": {"b": [np.int64(1)]}}, {"a": {"b": (1,)}}),
        (None, None),
    ],
)
def test_plain(value, expected):
    found = plain(value, "key")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {"b": [1, float("nan")]}}, r"a\.b\[1\] is not a number"),
        ({"a": {1: 2}}, "keys of a must be texts, not 1"),
        ({"a": {1, 2}}, r"a must be a number, a text, None, or a list or dict of them, not \{1, 2\}"),
        ({"model": {"act": max}}, "model.act must be a number"),
        ({"x": 1j}, "x must be a number"),
    ],
)
def test_what_no_config_can_hold(value, message):
    with pytest.raises(UserError, match=message):
        plain(value, "")


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        (224.0, int, 224),
        (3, float, 3),
        (3.0, float, 3.0),
        ([8.0, 16], int | tuple[int, int], (8, 16)),
        ((1, 2), tuple[float, float], (1, 2)),
        ((5.0,), tuple[int, ...], (5,)),
        (None, int | None, None),
        ("5 epochs", str | float, "5 epochs"),
        (0, str | float, 0),
        ([["a", 1]], tuple[tuple[str, Any], ...], (("a", 1),)),
        ("anything", Any, "anything"),
        (0.5, Callable, 0.5),  # an annotation that says nothing of plain values
        ({"x": 1}, Mapping | None, {"x": 1}),
    ],
)
def test_fits(value, annotation, expected):
    found = fit(value, annotation, "key")
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        (0.5, int, "key must be a whole number, not 0.5"),
        (True, int, "key must be a whole number, not True"),
        (True, float, "key must be a number, not True"),
        (1, bool, "key must be True or False, not 1"),
        ("0.1", float, "key must be a number, not the text '0.1': write it without quotes"),
        ("many", int | None, "key must be a whole number or None, not the text 'many'"),
        (None, str, "key must be a text, not None"),
        (3, str, "key must be a text, not 3"),
        ("image", tuple[str, ...], r"key must be a list of texts, not the text 'image': of one, write \('image',\)"),
        ((1, 2, 3), int | tuple[int, int], "key must be a whole number or 2 whole numbers"),
        ((1, 0.5), tuple[int, ...], r"key\[1\] must be a whole number, not 0.5"),
    ],
)
def test_does_not_fit(value, annotation, message):
    with pytest.raises(UserError, match=message):
        fit(value, annotation, "key")
