"""The names of columns in other programs: hints if a column has another name than expected."""

import logging
from collections.abc import Iterable, Sequence

_log = logging.getLogger(__name__)

# For each field its names, in lower case, in tables of the Hugging Face Hub, Kaggle, torchvision and timm.
_ALIASES = {
    "path": "file_name filename file filepath file_path image_path img_path image_file image_name image img image_id "
    "url",
    "label": "labels class classes category target y label_id class_id class_name classname label_name category_id "
    "category_name fine_label coarse_label fine_labels species kind tag tags",
    "text": "caption captions sentence sentences description descriptions prompt title alt alt_text txt raw words",
    "image": "img jpg png webp jpeg picture photo pixels bytes image_bytes",
}


def likely_column(field: str, names: Iterable[str]) -> str | None:
    """Returns the column that probably holds a field of examples, or None.

    Args:
      field: Name of the field: "path", "label", "text" or "image".
      names: Names of the columns.

    >>> likely_column("label", ["path", "Class"]), likely_column("label", ["path", "width"])
    ('Class', None)
    """
    lower = {name.lower(): name for name in names}
    return next((lower[word] for word in _ALIASES[field].split() if word in lower), None)


def warn_of_lack(where: str, field: str, names: Sequence[str], fields: Sequence[str] | None) -> None:
    """Warns that a wanted field has no column, and names the column that may hold it.

    Args:
      where: Name of the table, for the message.
      field: Name of the field, "label" or "text".
      names: Names of the columns.
      fields: Names of the wanted fields; None for all, in which case a table may lack some.
    """
    likely = likely_column(field, names)
    if (fields is None and not likely) or (fields is not None and field not in fields):
        return
    hint = f": if it is {likely!r}, set options=dict({field}={likely!r})" if likely else ""
    _log.warning(
        "no column of %s is called %r, so its examples have no %s; the columns are %s%s",
        where,
        field,
        field,
        ", ".join(names),
        hint,
    )
