"""What other programs call the columns of a table: hints where a column is looked for under another name."""

import logging
from collections.abc import Iterable, Sequence

_log = logging.getLogger(__name__)

# By field, in lower case: the names that it has in tables of the Hugging Face Hub, Kaggle, torchvision and timm.
_CALLED = {
    "path": "file_name filename file filepath file_path image_path img_path image_file image_name image img image_id "
    "url",
    "label": "labels class classes category target y label_id class_id class_name classname label_name category_id "
    "category_name fine_label coarse_label fine_labels species kind tag tags",
    "text": "caption captions sentence sentences description descriptions prompt title alt alt_text txt raw words",
    "image": "img jpg png webp jpeg picture photo pixels bytes image_bytes",
}


def meant(field: str, names: Iterable[str]) -> str | None:
    """The column that probably holds a field of examples, or None.

    >>> meant("label", ["path", "Class"]), meant("label", ["path", "width"])
    ('Class', None)
    """
    lower = {name.lower(): name for name in names}
    return next((lower[word] for word in _CALLED[field].split() if word in lower), None)


def warn_of_lack(where: str, field: str, names: Sequence[str], fields: Sequence[str] | None) -> None:
    """Says that no column is read for a field that is wanted, and which one it may be.

    Args:
      where: the table, for the message.
      field: "label" or "text".
      names: names of its columns.
      fields: fields of an example that are wanted; None for all, of which a table may lack some.
    """
    found = meant(field, names)
    if (fields is None and not found) or (fields is not None and field not in fields):
        return
    hint = f": if it is {found!r}, set options=dict({field}={found!r})" if found else ""
    _log.warning(
        "no column of %s is called %r, so its examples have no %s; the columns are %s%s",
        where,
        field,
        field,
        ", ".join(names),
        hint,
    )
