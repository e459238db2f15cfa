"""Example specs of every operation on images, for the contact sheet of `inspect` and for the tests.

An operation of your own names its examples in the decorator:
`@ops.register(examples=lambda side: (f"blur({side // 8})",))`.
"""

from jaxvision.augment.registry import ops
from jaxvision.specs import Call


def example_specs(side: int) -> dict[str, tuple[str, ...]]:
    """Returns example specs for each operation, from weak to strong, that change every image.

    Args:
      side: Side of the images in pixels, at least 16.

    Returns:
      Specs by name of the operation.

    >>> example_specs(96)["central_crop"]
    ('central_crop(72)', 'central_crop(48)')
    """
    quarter, half, most = side // 4, side // 2, side * 3 // 4
    jitter = "color_jitter(0.8, 0.8, 0.8, 0.2)"
    declared = {name: ops.more(Call(name), "examples") for name in ops.factories}
    return {name: tuple(examples(side)) for name, examples in declared.items() if examples is not None} | {
        # Where pixels go.
        "flip_lr": ("flip_lr(1.0)",),
        "flip_ud": ("flip_ud(1.0)",),
        "rotate90": ("rotate90((1,))", "rotate90((1, 2, 3))"),
        "rotate": ("rotate(15)", "rotate(45, fill=0.5)", "rotate(180, method='nearest')"),
        "translate": ("translate(0.1, 0.1)", "translate(0.3, 0.3)"),
        "shear": ("shear(0.2)", "shear(0.5, 0.5)"),
        "scale": ("scale((0.8, 1.25))", "scale((0.5, 2.0))"),
        "lens_distortion": (
            "lens_distortion((0.2, 0.3))",
            "lens_distortion((0.6, 1.0))",
            "lens_distortion((-0.3, -0.2))",
        ),
        "pad": (f"pad({side // 8})", f"pad({quarter}, 'reflect')"),
        "resize": (f"resize({most})", f"resize(({half}, {side}))"),
        "resize_short": (f"resize_short({half})",),
        "central_crop": (f"central_crop({most})", f"central_crop({half})"),
        "random_crop": (f"random_crop({side}, {side // 8})", f"random_crop({side}, {quarter}, 'reflect')"),
        "random_resized_crop": (
            f"random_resized_crop({side}, area=(0.5, 0.8))",
            f"random_resized_crop({side}, area=(0.08, 0.3))",
        ),
        "random_short_side_crop": (f"random_short_side_crop({side}, ({side}, {2 * side}))",),
        # What they look like.
        "normalize": ("normalize",),
        "normalize_imagenet": ("normalize_imagenet",),
        "standardize": ("standardize",),
        "standardize_image": ("standardize_image",),
        "subtract_mean_image": ("subtract_mean_image",),
        "whiten": ("whiten(epsilon=1.0)", "whiten(epsilon=0.01)", "whiten('pca')"),
        "pca_lighting": ("pca_lighting(0.1)", "pca_lighting(0.5)"),
        "color_jitter": (
            "color_jitter(0.2, 0.2, 0.2, 0.05)",
            "color_jitter(0.4, 0.4, 0.4, 0.1)",
            jitter,
            "color_jitter(0.5, additive_brightness=True)",
        ),
        "grayscale": ("grayscale",),
        "solarize": ("solarize(192)", "solarize(128)", "solarize(64)"),
        "posterize": ("posterize(4)", "posterize(2)", "posterize(1)"),
        "equalize": ("equalize",),
        "autocontrast": ("autocontrast",),
        "invert": ("invert",),
        "gaussian_blur": ("gaussian_blur((0.5, 1.0))", "gaussian_blur((1.5, 2.0), kernel=0.25)"),
        "sharpness": ("sharpness((0.0, 0.1))", "sharpness((3.0, 4.0))"),
        # What is replaced.
        "cutout": (f"cutout({quarter})", f"cutout({half})"),
        "random_erasing": (
            "random_erasing(1.0, area=(0.05, 0.1), fill=0)",
            "random_erasing(1.0, area=(0.1, 0.3), fill='mean')",
            "random_erasing(1.0, area=(0.2, 0.4))",
        ),
        "mixup": ("mixup(0.2)", "mixup(1.0)"),
        "cutmix": ("cutmix(1.0)", "cutmix(1.0, per_example=True)"),
        "mixup_or_cutmix": ("mixup_or_cutmix",),
        # Policies.
        "randaugment": ("randaugment(2, 5)", "randaugment(2, 9, std=0.5)"),
        "trivialaugment": ("trivialaugment('ra')", "trivialaugment"),
        "autoaugment": ("autoaugment('cifar10')", "autoaugment('svhn')", "autoaugment('imagenet')"),
        "three_augment": ("three_augment((1.0, 2.0))",),
        "augmix": ("augmix(1)", "augmix(3)", "augmix(10, depth=3, all_ops=True)"),
        # Several views of an image.
        "views": (
            f"views(2, 'random_resized_crop({side})|flip_lr')",
            f"views(2, 'random_resized_crop({side})|{jitter}')",
        ),
        "multi_crop": (
            f"multi_crop('random_resized_crop({side}, (0.4, 1))', 'random_resized_crop({half}, (0.05, 0.4))')",
        ),
        "five_crop": (f"five_crop({most})",),
        "ten_crop": (f"ten_crop({most})",),
        "flip_both": ("flip_both",),
    }
