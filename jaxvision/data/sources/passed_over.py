"""What a source finds in its folder and does not read: counted by reason, a few of each named."""

from collections.abc import Mapping

NAMED = 3  # entries of each reason that a message names


class PassedOver:
    """An account of the entries of a data set that are not read.

    Args:
      counts: by reason the number of entries and the names of the first three, as `as_dict` gives them.

    >>> account = PassedOver()
    >>> for name in ("a.txt", "b.txt", "c.txt", "d.txt"):
    ...     account.add("name ends like no image", name)
    >>> str(account)
    'name ends like no image: 4 (a.txt, b.txt, c.txt, ...)'
    """

    def __init__(self, counts: Mapping[str, tuple[int, list[str]]] | None = None):
        self._counts = {reason: (int(count), list(names)) for reason, (count, names) in (counts or {}).items()}

    def add(self, reason: str, name: str, count: int = 1) -> None:
        """Counts entries.

        Args:
          reason: words for one entry, like "name ends like no image".
          name: an entry, as a user would look for it.
          count: number of entries that `name` stands for, such as the files of a folder.
        """
        counted, names = self._counts.setdefault(reason, (0, []))
        self._counts[reason] = counted + count, names if len(names) >= NAMED else [*names, name]

    def update(self, other: "PassedOver") -> None:
        """Adds what `other` has counted."""
        for reason, (count, names) in other._counts.items():
            counted, known = self._counts.get(reason, (0, []))
            self._counts[reason] = counted + count, [*known, *names][:NAMED]

    def as_dict(self) -> dict[str, tuple[int, list[str]]]:
        """The counts and names by reason, as JSON can hold them."""
        return dict(self._counts)

    def __len__(self) -> int:
        return sum(count for count, _ in self._counts.values())

    def __str__(self) -> str:
        def words(reason: str, count: int, names: list[str]) -> str:
            return f"{reason}: {count:,} ({', '.join(names)}{', ...' if count > len(names) else ''})"

        return "; ".join(words(reason, *counted) for reason, counted in self._counts.items())
