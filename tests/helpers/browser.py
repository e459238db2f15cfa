"""Opens a page in a headless browser and tells what it shows."""

import base64
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

VARIABLE = "JAXVISION_BROWSER"  # path of a Chromium or Chrome
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
# It ends up in the title, which is printed with the page: sizes of pictures, tables, colours, what the console got.
_SCRIPT = """<script>
const wrong = [];
window.addEventListener("error", event => wrong.push(String(event.message || event.target.tagName)), true);
window.addEventListener("load", () => {
  const style = getComputedStyle(document.body);
  document.title = "SEEN" + btoa(unescape(encodeURIComponent(JSON.stringify({
    pictures: [...document.images].map(picture => [picture.alt, picture.naturalWidth, picture.naturalHeight]),
    cells: [...document.querySelectorAll("td, th")].map(cell => cell.textContent.trim()),
    captions: [...document.querySelectorAll("figcaption")].map(caption => caption.textContent),
    overflow: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    text: style.color, background: style.backgroundColor, wrong
  })))) + "END";
});
</script>"""


def find() -> str:
    """The browser; the test is skipped where there is none."""
    named = os.environ.get(VARIABLE)
    found = named or next((path for name in NAMES if (path := shutil.which(name))), None)
    if not found:
        pytest.skip(f"no Chromium or Chrome is installed; its path may stand in {VARIABLE}")
    return found


def look(page: Path, folder: Path, *options: str) -> dict:
    """What the browser makes of a page.

    Args:
      page: HTML file.
      folder: Empty folder, for a copy of the page with a script and for the browser's profile.
      *options: Further options of the browser.
    """
    copy = folder / "copy.html"
    copy.write_text(page.read_text().replace("<head>", f"<head>{_SCRIPT}", 1))
    command = [find(), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
    command += ["--dump-dom", "--window-size=1200,2000", *options, copy.as_uri()]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"the browser does not start here: {error}")
    seen = re.search("SEEN(.*?)END", done.stdout)
    assert seen, f"the page was not loaded: {done.stderr[-500:]}"
    return json.loads(base64.b64decode(seen[1]))
