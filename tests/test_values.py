"""Values of configs, as plain Python."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxvision.errors import UserError
from jaxvision.values import plain


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
    result = plain(value, "key")
    assert result == expected
    assert type(result) is type(expected)


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
