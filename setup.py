"""Puts configs/ and experiments/ into the wheel, inside the package; everything else is in setup.cfg."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

FOLDERS = ("configs", "experiments")
COPY = Path("jaxvision", "shipped")  # jaxvision/shipped.py looks there


class BuildWithConfigs(build_py):
    """Copies the folders beside the modules; an editable installation finds them in the checkout."""

    def run(self) -> None:
        """Builds the package."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / COPY
        shutil.rmtree(target, ignore_errors=True)  # files of an earlier build that no longer exist
        # The published results, pictures and tables, are for readers of the repository; no command reads them.
        ignore = shutil.ignore_patterns("__pycache__", "*.pyc", "results")
        for folder in FOLDERS:
            shutil.copytree(folder, target / folder, ignore=ignore)


setup(cmdclass={"build_py": BuildWithConfigs})
