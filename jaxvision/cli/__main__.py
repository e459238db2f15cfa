"""`python -m jaxvision.cli`, for where the console script is not on the path."""

from jaxvision.cli import main

main()
