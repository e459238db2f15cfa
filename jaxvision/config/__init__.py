"""Experiment configs: load, override, check, compare, save.

A config is a `ConfigDict` made by `get_config(arg)` of a file in configs/. Each of its sections is the keyword
arguments of one function, so a misspelt key is named before anything runs. Its values are plain numbers and texts.

files.py      from a file to a config
plain.py      plain values; dotted keys
schema.py     keys that a section may hold: the parameters of the function that gets it
overrides.py  new values for single keys
calls.py      sections as keyword arguments
saved.py      configs as JSON: writing, reading, comparing
"""

from jaxvision.config.calls import call, check_sections
from jaxvision.config.files import load, plain_writes, read
from jaxvision.config.overrides import at, override
from jaxvision.config.plain import flatten, is_spec, normalised
from jaxvision.config.saved import differences, fingerprint, from_json, saved, to_json
from jaxvision.config.schema import SECTIONS

__all__ = [
    "SECTIONS",
    "at",
    "call",
    "check_sections",
    "differences",
    "fingerprint",
    "flatten",
    "from_json",
    "is_spec",
    "load",
    "normalised",
    "override",
    "plain_writes",
    "read",
    "saved",
    "to_json",
]
