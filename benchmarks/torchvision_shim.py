"""Lets torchvision, and timm with it, be imported beside a CPU build of torch.

The wheels of torchvision on the package index hold operators for CUDA builds of torch only, and the
import fails where these cannot be loaded. Declaring the operators that it looks for at import is
enough for the models, which do not use them. `allow_torchvision` must run before the first import.
"""

import functools

import torch

OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height, int pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
)
_library = torch.library.Library("torchvision", "FRAGMENT")  # operators live as long as this


@functools.cache  # an operator cannot be declared twice
def allow_torchvision() -> None:
    """Declares the operators; does nothing where torch has CUDA, and torchvision its own."""
    if torch.version.cuda is None:
        for operator in OPERATORS:
            _library.define(operator)
