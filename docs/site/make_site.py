"""Builds the documentation as a site.

    python docs/site/make_site.py [OUT] [--run]

OUT is build/site by default; open OUT/html/index.html. It needs the extra `docs` of the package, and no network.
`--run` runs the notebooks, which takes two or three minutes, and shows what they print and draw.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def build(out: Path, run: bool = False) -> int:
    """Builds the site.

    Args:
      out: Folder for the pages and the site.
      run: True to run the code of notebooks.

    Returns:
      Exit status, 0 if all went well.
    """
    try:
        import furo  # noqa: F401
        import myst_parser  # noqa: F401
        from sphinx.cmd.build import main as sphinx
    except ImportError as error:
        print(f"{error.name} is not installed: pip install -e '.[docs]'", file=sys.stderr)
        return 1
    import api_pages
    import reference_pages
    import site_pages

    site_pages.collect(ROOT, out / "pages", {**reference_pages.pages(ROOT), **api_pages.pages()}, run)
    options = ["-q", "-b", "html", "-c", str(Path(__file__).parent), "-d", str(out / "cache")]
    status = sphinx([*options, "-W", "--keep-going", str(out / "pages"), str(out / "html")])
    if status == 0:
        print(f"the site is in {out / 'html' / 'index.html'}")
    return status


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Builds the documentation as a site.")
    parser.add_argument("out", nargs="?", type=Path, default=ROOT / "build" / "site", help="folder for the site")
    parser.add_argument("--run", action="store_true", help="run the notebooks, and show what they print and draw")
    options = parser.parse_args()
    sys.exit(build(options.out.resolve(), options.run))
