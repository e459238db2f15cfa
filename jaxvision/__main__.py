"""What the console script and `python -m jaxvision` run: signals are heard before anything else is imported."""

from jaxvision import signals


def main() -> None:
    """The command line; see `jaxvision.cli`."""
    with signals.listening(console=True):
        from jaxvision import cli

        cli.main()


if __name__ == "__main__":
    main()
