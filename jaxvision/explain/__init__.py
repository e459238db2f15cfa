"""Explanations: instruments that show what a network sees, one file for each family.

base.py              what an instrument gets and gives back
gradients.py         gradients of a score: plain, SmoothGrad, integrated
guided.py            guided backpropagation
occlusion.py         what happens when a part of the image is covered
activation_maps.py   CAM, and Grad-CAM at any layer; cut.py: the gradient with respect to a layer
attention.py         attention of ViTs, rolled out, and what of it counts for a class or a text
adversarial.py       FGSM and PGD, also towards a class
embedding.py         principal components, t-SNE and nearest neighbours; plane.py: the images at these points
ascent.py            images that excite a class or a unit, by gradient ascent
filters.py           filters of the first layer, and response maps of units; units.py: what instruments of units share
patches.py           patches to which units respond most; receptive_fields.py: the pixels that can change a unit
silent.py            units that respond to none of the images
dissect.py           which units detect a concept, by segmentation masks
sanity.py            whether maps change when the weights are randomised; maps.py: maps of an instrument by its name

An instrument is two functions in one file. The first is pure, of `(outputs, variables, images, targets, ...)`, and
returns arrays: it can be imported, jitted and tested. The second, decorated with `@part("explanation", "NAME")`,
applies it to a `Subject`. It returns an `Explanation`: the pictures and words that `jaxvision explain` puts on its
page:

    @part("explanation", "gradient", small={...}, passes=3)
    def explain_gradient(subject: Subject, *, option: int = 1) -> Explanation:

The decorator may also say

    passes    the number of forward passes that each image costs; a gradient counts as 3. A number, or a function of the
              subject and of the options by keyword. The command says from it how long it will take.
    refuses   a function of the subject, and of the options by keyword, that returns why the instrument cannot be
              applied, as the end of a sentence, or None. Nothing has been computed or written when it is called.
    maps      True if `Explanation.summary` always is a map of each image, so that `randomised` and the evaluator
              `pointing` can test the instrument.
    settles   a function of the subject, and of the options by keyword, that returns the options whose default depends
              on the weights; maps that are compared with one another keep them.

`outputs` is a pure function of variables and images in [0, 1] that normalises the images as training did and returns a
dict of arrays: "features", "logits" [b, k], "map", "stages", ... `jaxvision.load(workdir).outputs` is one. An epsilon
is therefore always in units of the pixel range [0, 1].
"""

from collections.abc import Callable

from jaxvision.registry import PartRegistry

EXPLANATIONS = PartRegistry(
    "explanation", [__name__], required=("subject",), usage="jaxvision explain --workdir=RUN --images=FILES --what=NAME"
)


def get_explanation(name: str) -> Callable:
    """Returns the instrument of a name.

    Args:
      name: Name of an instrument, or "package.module:function" of your own.

    Raises:
      UserError: There is no such instrument.
    """
    return EXPLANATIONS.resolve(name)
