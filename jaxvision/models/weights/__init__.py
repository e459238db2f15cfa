"""Weights in and out: `import_weights` and `export_weights` are pure functions from named arrays to variables and back.

files.py            safetensors, .npz, Keras .h5, Flax .msgpack -> named arrays
formats.py          the format of a file, by its content; for pickles, web pages and archives an error says what to do
tables.py           the names of the arrays of each of our models in each library; the tables themselves are in
                    torch_names.py, convnet_names.py, mobile_names.py, token_names.py, dino_names.py,
                    clip_names.py, open_clip_names.py and flax_names.py
table.py            the fields of such a table; layouts.py: the axes of arrays in other libraries
prefixes.py         prefixes of the names in a file: of wrappers, of sets of weights in one checkpoint, of parts
mapping.py          import and export, driven by the tables; heads, positions
mismatch.py         the error for weights that do not fit; misfits.py: words for known differences
properties.py       properties that no array shows, such as an epsilon: those of our models, those with which weights
                    were trained (torch_properties.py), and their differences
preprocessing.py    the preprocessing of images that the weights expect; presets.py: that of each library, as data
folder.py           a folder of converted weights; timm_folder.py: one that timm opens
hub.py              weights of the Hugging Face Hub by name
"""

from jaxvision.models.weights.files import read, write
from jaxvision.models.weights.mapping import Imported, export_weights, import_weights
from jaxvision.models.weights.tables import sources

__all__ = ["Imported", "export_weights", "import_weights", "read", "sources", "write"]
