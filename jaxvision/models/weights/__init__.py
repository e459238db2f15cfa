"""Weights in and out: `import_weights` and `export_weights` are pure functions from named arrays to variables and back.

files.py            safetensors, .npz, Keras .h5, Flax .msgpack -> named arrays
formats.py          what a file is, by its content; pickles, web pages, archives are refused, with what to do
tables.py           how each library names the arrays of each of our models: data, in torch_names.py, open_clip_names.py
                    and flax_names.py
table.py            what such a table says; layouts.py: how arrays lie in memory
prefixes.py         what stands before the names of a file: of wrappers, of sets of weights in one checkpoint, of parts
mapping.py          import and export, driven by the tables; heads, positions
mismatch.py         the error for weights that do not fit; misfits.py: words for known differences
properties.py       what no array tells, such as an epsilon: what our models compute, what the weights were trained with
                    (torch_properties.py), and where they differ
preprocessing.py    what images must look like for them
folder.py           a folder of converted weights
"""

from jaxvision.models.weights.files import read, write
from jaxvision.models.weights.mapping import Imported, export_weights, import_weights
from jaxvision.models.weights.tables import sources

__all__ = ["Imported", "export_weights", "import_weights", "read", "sources", "write"]
