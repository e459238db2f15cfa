"""The files in the folder of a source that are not read: counted by reason, with the names of a few."""

from collections.abc import Mapping

from jaxvision.errors import shown

NAMED = 3  # entries of each reason that a message names


class PassedOver:
    """A record of the entries of a data set that are not read.

    Args:
      counts: Number of entries and names of the first three by reason, as `as_dict` returns them.

    >>> account = PassedOver()
    >>> for name in ("a.txt", "b.txt", "c.txt", "d.txt"):
    ...     account.add("suffix is not that of an image", name)
    >>> str(account)
    'suffix is not that of an image: 4 (a.txt, b.txt, c.txt, ...)'

    A name with characters that cannot be printed, as a damaged tar has them, is escaped in the message.
    """

    def __init__(self, counts: Mapping[str, tuple[int, list[str]]] | None = None):
        self._counts = {reason: (int(count), list(names)) for reason, (count, names) in (counts or {}).items()}

    def add(self, reason: str, name: str, count: int = 1) -> None:
        """Counts entries.

        Args:
          reason: Reason, in words for one entry, like "suffix is not that of an image".
          name: Name of an entry, as a user would look for it.
          count: Number of entries that `name` stands for, such as the files of a folder.
        """
        counted, names = self._counts.setdefault(reason, (0, []))
        self._counts[reason] = counted + count, names if len(names) >= NAMED else [*names, name]

    def update(self, other: "PassedOver") -> None:
        """Adds the counts of another record.

        Args:
          other: Record to add.
        """
        for reason, (count, names) in other._counts.items():
            counted, earlier = self._counts.get(reason, (0, []))
            self._counts[reason] = counted + count, [*earlier, *names][:NAMED]

    def as_dict(self) -> dict[str, tuple[int, list[str]]]:
        """Returns the counts and names by reason, as JSON values."""
        return dict(self._counts)

    def __len__(self) -> int:
        return sum(count for count, _ in self._counts.values())

    def __str__(self) -> str:
        def words(reason: str, count: int, names: list[str]) -> str:
            named = ", ".join(name if name.isprintable() else shown(name) for name in names)
            return f"{reason}: {count:,} ({named}{', ...' if count > len(names) else ''})"

        return "; ".join(words(reason, *counted) for reason, counted in self._counts.items())
