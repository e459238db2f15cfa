"""Settings of the documentation site. `make_site.py` runs Sphinx with them on pages that `site_pages.py` collects."""

from importlib.metadata import version as version_of

project = "jaxvision"
copyright = "the jaxvision authors"
try:
    release = version = version_of("jaxvision")
except ModuleNotFoundError:  # a clone that is not installed
    release = version = ""

root_doc = "index"
extensions = ["myst_parser"]

myst_heading_anchors = 4  # the anchors that GitHub makes

add_module_names = False
python_maximum_signature_line_length = 100

html_theme = "furo"
html_title = f"jaxvision {release}".strip()
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
