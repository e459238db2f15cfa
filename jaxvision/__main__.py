"""What the console script and `python -m jaxvision` run: signals are heard before anything slow is imported."""

from jaxvision import memory, signals


def main() -> None:
    """The command line; see `jaxvision.cli`."""
    memory.keep_freed()  # before the first thread, which listens to signals
    with signals.listening(console=True):
        from jaxvision import cli

        cli.main()


if __name__ == "__main__":
    main()
