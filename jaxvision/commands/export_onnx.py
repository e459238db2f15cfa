"""Conversion of a function to ONNX, by jax2onnx."""

import importlib.metadata
import importlib.util
import io
import logging
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxvision.errors import UserError

LIBRARIES = ("jax2onnx", "onnx", "onnxruntime")
# jax2onnx asks for an Orbax older than ours, which the conversion does not use: so it is no part of the extra.
INSTALL = "pip install 'jaxvision[onnx]' && pip install --no-deps 'jax2onnx>=0.17,<0.18'"
OPSET = 18  # of onnxruntime 1.14 (2023) and newer


def check_installed() -> None:
    """Checks that the converter is installed.

    Raises:
      UserError: A library is missing.
    """
    if missing := [name for name in LIBRARIES if importlib.util.find_spec(name) is None]:
        raise UserError(f"--format=onnx needs {', '.join(missing)}: {INSTALL}")


def versions() -> dict[str, str]:
    """Returns the versions of the converter and of what it writes, by name."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def convert(function: Callable[[jax.Array], dict[str, jax.Array]], shape: tuple[int, int]) -> tuple[bytes, Callable]:
    """Converts a function of images to ONNX.

    Args:
      function: Function of uint8 images [b, h, w, 3] that returns outputs [b, ...] by name.
      shape: (height, width) of the images.

    Returns:
      Content of the file, and a function of images uint8 [b, h, w, 3] that calls it in onnxruntime.

    Raises:
      UserError: The function has an operation that the converter does not know.
    """
    import jax2onnx
    import onnxruntime

    names = list(jax.eval_shape(function, jax.ShapeDtypeStruct((1, *shape, 3), np.uint8)))

    def listed(images: jax.Array) -> tuple[jax.Array, ...]:
        return tuple(function(images)[name] for name in names)

    images: Any = jax.ShapeDtypeStruct(("b", *shape, 3), np.uint8)  # a symbolic size
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)  # it logs each of its plugins for libraries that are not installed
    try:
        proto = jax2onnx.to_onnx(listed, [images], opset=OPSET, input_names=["images"], output_names=names)
    except Exception as error:  # the converter raises many types
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"jax2onnx {importlib.metadata.version('jax2onnx')} cannot convert this model: {reason}. "
            "--format=stablehlo has no such limit"
        ) from error
    finally:
        logging.disable(before)
    content = io.BytesIO(proto.SerializeToString()).getvalue()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; it warns of what it does not optimise
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def call(pictures: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(names, session.run(names, {"images": pictures})))

    return content, call
