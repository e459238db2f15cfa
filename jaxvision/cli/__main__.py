"""`python -m jaxvision.cli`, for where the console script is not on the path; `python -m jaxvision` is the same."""

from jaxvision.__main__ import main

main()
