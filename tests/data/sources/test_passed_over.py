"""What a source passes over, in words."""

from jaxvision.data.sources.passed_over import PassedOver


def test_names_that_cannot_be_printed_are_escaped():
    """A damaged tar has such names: they would not fit into UTF-8, or would start lines of their own."""
    account = PassedOver()
    for name in ("caf\u00e9.txt", "a\udcc3\n\x1b[2J.txt"):
        account.add("example without image", name)
    assert str(account) == r"example without image: 2 (café.txt, 'a\udcc3\n\x1b[2J.txt')"
    str(account).encode()
