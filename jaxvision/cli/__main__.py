"""`python -m jaxvision.cli`, the same as `python -m jaxvision` and the console script `jaxvision`."""

from jaxvision.__main__ import main

main()
