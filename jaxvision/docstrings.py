"""The parts of a docstring in Google's style: its first paragraph, its sections, and the entries of `Args:`."""

import re

_SECTION = re.compile(r"([A-Z]\w*(?: \w+)?):$")
_ENTRY = re.compile(r"(\*{0,2}\w+(?:, \*{0,2}\w+)*)(?: \([^)]*\))?: ?(.*)")


def sections(doc: str) -> dict[str, str]:
    """Returns the sections of a docstring.

    Args:
      doc: Docstring, its indentation removed.

    Returns:
      The text of each section by its title, "Args" for instance; the text before the first section, and between
      sections, is under "".

    >>> sections("Adds.\\n\\nArgs:\\n    a: First number.\\n\\nReturns:\\n    The sum.")["Returns"].strip()
    'The sum.'
    """
    texts, title = {"": ""}, ""
    for line in doc.splitlines():
        if line and not line[0].isspace():
            header = _SECTION.match(line)
            title = header[1] if header else ""
            if header:
                texts.setdefault(title, "")
                continue
        texts[title] += line + "\n"
    return texts


def entries(section: str) -> dict[str, str]:
    """Returns the descriptions in a section such as `Args:`.

    Args:
      section: Text of the section, with its indentation.

    Returns:
      The description of each name, without the asterisks of `*args` and `**options`.

    >>> entries("    x, y: Two numbers,\\n        positive.\\n    *rest: Other numbers.")
    {'x': 'Two numbers, positive.', 'y': 'Two numbers, positive.', 'rest': 'Other numbers.'}
    """
    described: dict[str, str] = {}
    lines = [line for line in section.splitlines() if line.strip()]
    indentation = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    names: list[str] = []
    for line in lines:
        entry = _ENTRY.match(line[indentation:])
        if entry:
            names = [name.lstrip("*") for name in entry[1].split(", ")]
            described.update(dict.fromkeys(names, entry[2].strip()))
        else:
            described.update({name: f"{described[name]} {line.strip()}".strip() for name in names})
    return described


def arguments(doc: str) -> dict[str, str]:
    """Returns the description of each argument of a function, or of each field of a class.

    Args:
      doc: Docstring, its indentation removed.

    >>> arguments("A pair.\\n\\nAttributes:\\n  left, right: Number.")
    {'left': 'Number.', 'right': 'Number.'}
    """
    texts = sections(doc)
    return entries(texts.get("Args", "")) | entries(texts.get("Attributes", ""))


def summary(doc: str) -> str:
    """Returns the first paragraph of a docstring as one line.

    Args:
      doc: Docstring.

    >>> summary("Adds two numbers,\\n  whatever they are.\\n\\nArgs:\\n  a: Number.")
    'Adds two numbers, whatever they are.'
    """
    return " ".join(doc.strip().split("\n\n")[0].split())
