"""Configs made from a folder of images, and configs written as Python files that can be edited.

    layouts.py       what a folder or a table of images is: the kind of source, its splits
    tables.py        the columns of a table; roles.py: which split trains, and which evaluates
    survey.py        the sizes and classes of its images, and the images that cannot be read
    model_names.py   short names of models: resnet18, vit-s16, convnext-t
    starts.py        the weights that a run starts from: model, preprocessing, classes
    choices.py       batch size, length, learning rate, augmentation from these facts
    make.py          the config; words.py: lines that say what was found and chosen
    python_file.py   a config as the text of a Python file

docs/your_images.md explains the choices.
"""

from jaxvision.recipes.make import Recipe, Wishes, check_images, make
from jaxvision.recipes.python_file import docstring, python_file

__all__ = ["Recipe", "Wishes", "check_images", "docstring", "make", "python_file"]
