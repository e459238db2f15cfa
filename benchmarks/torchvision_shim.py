"""Lets torchvision, and timm with it, be imported with a CPU build of torch.

The wheels of torchvision on the package index have operators for CUDA builds of torch only, and the
import fails if these cannot be loaded. The models do not use them, so it is enough to declare the operators that
torchvision looks up at import. Call `allow_torchvision` before the first import.
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
    """Declares the operators; does nothing if torch has CUDA, since torchvision then brings its own."""
    if torch.version.cuda is None:
        for operator in OPERATORS:
            _library.define(operator)
