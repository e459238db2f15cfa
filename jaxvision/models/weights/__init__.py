"""Weights in and out: `import_weights` and `export_weights` are pure functions from named arrays to variables and back.

files.py            safetensors, .npz, Keras .h5 -> named arrays; pickles are refused
tables.py           how each library names the arrays of each of our models: data, in torch_names.py and flax_names.py
table.py            what such a table says; layouts.py: how arrays lie in memory
mapping.py          import and export, driven by the tables; heads, positions, errors
preprocessing.py    what images must look like for them
folder.py           a folder of converted weights
"""

from jaxvision.models.weights.files import read, write
from jaxvision.models.weights.mapping import Imported, export_weights, import_weights, sources

__all__ = ["Imported", "export_weights", "import_weights", "read", "sources", "write"]
