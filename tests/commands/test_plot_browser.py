"""A page as a browser shows it: whole, legible in the dark, and without a mistake."""

import browser
import pytest
from written_runs import write_run

from jaxvision.commands import plot


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    browser.find()
    folder = tmp_path_factory.mktemp("pages")
    for seed in range(2):
        write_run(folder / "runs" / f"seed{seed}", seed=seed, top1=0.5 + seed / 10)
    write_run(folder / "runs" / "fast", rate=0.2)
    return plot.run_plot([str(folder / "runs")], folder / "out")


def test_a_browser_shows_tables_and_pictures(page, tmp_path):
    seen = browser.look(page, tmp_path)
    assert seen["wrong"] == []
    assert [name for name, *_ in seen["pictures"]] == ["final", "curves", "process"]
    assert all(width > 300 and height > 80 for _, width, height in seen["pictures"])
    assert {"seed*", "fast", "val/top1", "50.00%"} <= set(seen["cells"])
    assert len(seen["captions"]) == 3
    assert seen["overflow"] <= 0  # nothing sticks out of the page


def test_a_page_is_light_on_dark_where_the_reader_wants_it(page, tmp_path):
    lightness = lambda colour: sum(map(int, colour[4:-1].split(",")[:3])) / 765
    for folder, scheme in ((tmp_path / "light", 1), (tmp_path / "dark", 0)):
        folder.mkdir()
        seen = browser.look(page, folder, f"--blink-settings=preferredColorScheme={scheme}")
        text, background = lightness(seen["text"]), lightness(seen["background"])
        assert text > 0.7 and background < 0.2 if scheme == 0 else text < 0.3 and background > 0.9
