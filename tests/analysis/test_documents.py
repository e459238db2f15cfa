"""Pages are read back with the standard library's parser."""

import base64
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from jaxvision.analysis import documents, words
from jaxvision.errors import UserError


class Reader(HTMLParser):
    """Collects tags with their attributes, and the text of table cells."""

    def __init__(self):
        super().__init__()
        self.tags, self.cells, self.words = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_data(self, data):
        self.words.append(data)
        if self.cells and self.tags[-1][0] in ("td", "th"):
            self.cells[-1] += data.strip()


def read(text):
    reader = Reader()
    reader.feed(text)
    return reader


def test_pictures_are_inside_the_page(tmp_path):
    Image.new("RGB", (3, 2), "red").save(tmp_path / "my curve.png")
    (tmp_path / "curve.svg").write_text("<svg/>")
    text = documents.page("![a curve](<my curve.png>) and ![b](curve.svg)", tmp_path, "t")
    first, second = (attrs for tag, attrs in read(text).tags if tag == "img")
    kind, data = first["src"].split(",")
    assert (kind, first["alt"]) == ("data:image/png;base64", "a curve")
    assert base64.b64decode(data) == (tmp_path / "my curve.png").read_bytes()
    assert second["src"].startswith("data:image/svg+xml;base64,")


def test_tables_keep_their_cells():
    markdown = "| arm | top-1 |\n|---|---:|\n| ViT | 24.5 ± 5.9 |\n"
    reader = read(documents.page(markdown, Path(), "t"))
    assert reader.cells == ["arm", "top-1", "ViT", "24.5 ± 5.9"]
    assert {"style": "text-align:right"} in [attrs for tag, attrs in reader.tags if tag == "td"]


def test_a_long_name_in_a_table_breaks_between_its_parts():
    page = documents.page("| key | `a/b_c<i>` |\n|---|---|\n| `x.y` | `0.01,1e-05` |\n\nin words `a/b`", Path(), "t")
    assert "<th><code>a/<wbr>b_<wbr>c&lt;i&gt;</code></th>" in page
    assert "<td><code>x.<wbr>y</code></td>" in page
    assert "<td><code>0.01,1e-05</code></td>" in page  # and a number stays whole
    assert "<p>in words <code>a/b</code></p>" in page


def test_long_cells_and_tables_of_many_columns_are_told_to_the_style():
    many = documents.WIDE + 1
    text = f"| a | b |\n|---|---|\n| {'x' * (documents.LONG + 1)} | y |\n\n|{' a |' * many}\n|{'---|' * many}\n"
    reader = read(documents.page(text, Path(), "t"))
    assert [attrs for tag, attrs in reader.tags if tag == "td"] == [{"class": "long"}, {}]
    assert [attrs for tag, attrs in reader.tags if tag == "table"] == [{}, {"class": "wide"}]


def test_html_in_a_message_is_shown_and_not_obeyed():
    reader = read(documents.page("<script>alert(1)</script>", Path(), "<b>"))
    assert not {"script", "b"} & {tag for tag, _ in reader.tags}
    assert "<script>alert(1)</script>" in "".join(reader.words)
    assert "<b>" in reader.words


def test_a_page_refers_to_no_other_file(tmp_path):
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    text = documents.page("# Title\n\n![a](a.png)", tmp_path, "t")
    sources = [attrs[key] for _, attrs in read(text).tags for key in ("src", "href") if key in attrs]
    assert sources
    assert all(source.startswith("data:") for source in sources)


@pytest.mark.parametrize("source", ["missing.png", "https://example.org/a.png"])
def test_a_picture_that_is_not_here_leaves_nothing_written(tmp_path, source):
    with pytest.raises(UserError, match="the picture .* is not in"):
        documents.write(f"![a]({source})", tmp_path / "report.md", "t")
    assert not list(tmp_path.iterdir())


def test_markdown_and_page_are_written_beside_each_other(tmp_path):
    documents.write("# One ± two\n", tmp_path / "report.md", "t")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.html", "report.md"]
    assert (tmp_path / "report.md").read_text() == "# One ± two\n"
    assert "<h1>One ± two</h1>" in (tmp_path / "report.html").read_text()


def test_a_page_takes_no_file_from_outside_its_folder_and_none_but_pictures(tmp_path):
    folder = tmp_path / "report"
    folder.mkdir()
    Image.new("L", (2, 2)).save(tmp_path / "other.png")
    (tmp_path / "secret").write_text("key")
    (folder / "notes.txt").write_text("key")
    (folder / "link.png").symlink_to(tmp_path / "secret")
    (folder / "there.png").symlink_to(tmp_path / "other.png")
    absolute = tmp_path / "other.png"
    outside = ["../secret", "../other.png", "%2e%2e/other.png", absolute, "/etc/hostname", "link.png", "there.png"]
    for source in [*outside, "a%00.png", "x" * 5000 + ".png", "report/../../other.png", "."]:
        with pytest.raises(UserError, match="the picture .* is not in"):
            documents.page(f"![a](<{source}>)", folder, "t")
    with pytest.raises(UserError, match=r"not a picture that a page can show"):
        documents.page("![a](notes.txt)", folder, "t")


@pytest.mark.parametrize(
    "target",
    ["javascript:alert(1)", "JaVaScRiPt:alert(1)", "java&#115;cript:alert(1)", "vbscript:x", "file:///etc/passwd"]
    + ["data:text/html,<script>x</script>", "../../etc/hostname", "//evil.example/x", "\tjavascript:alert(1)"],
)
def test_links_lead_to_the_web_or_nowhere(target):
    reader = read(documents.page(f"[a]({target}) [b](<{target}>) <{target}> [c]\n\n[c]: {target}\n", Path(), "t"))
    assert not [attrs for tag, attrs in reader.tags if "href" in attrs]
    assert {"href": "https://example.org/"} in [
        a for _, a in read(documents.page("[a](https://example.org/)", Path(), "t")).tags
    ]


def test_a_page_links_to_the_pages_that_it_is_told_of():
    reader = read(documents.page("[a](../a.html) [b](b.html) [c](https://c.org)", Path(), "t", ["../a.html"]))
    assert [attrs["href"] for _, attrs in reader.tags if "href" in attrs] == ["../a.html", "https://c.org"]


HOSTILE = ["[x](javascript:alert(1))", "![x](../../etc/hostname)", "<img src=x onerror=alert(1)>", "a|b|c", "`x` <b>"]
HOSTILE += ["# head", "a\n\n![x](/etc/hostname)", "<https://evil.example>", "*a* **b**", "&lt;b&gt;", "\\[x](y)"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_in_a_report_is_only_its_letters(name):
    text = " ".join(name.split())
    for made, shown in ((words.plain(name), text), (words.code(name), text.replace("`", "'"))):
        page = documents.page("\n".join([made, *words.table("a", ["b"], {made: [made]})]), Path(), "t")
        reader = read(page)
        assert not {"img", "a", "script", "b", "strong", "em", "h1"} & {tag for tag, _ in reader.tags}
        assert reader.cells[:2] == ["a", "b"]
        assert "".join(reader.words).count(shown) == 3  # in a line and in two cells
        assert len([tag for tag, _ in reader.tags if tag == "td"]) == 2


def test_a_picture_alone_is_a_figure_with_its_words_as_the_caption(tmp_path):
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    text = documents.page('![a *b* `c`](a.png)\n\n![d](a.png "e < f")\n\nx ![g](a.png)\n', tmp_path, "t")
    reader = read(text)
    assert [tag for tag, _ in reader.tags].count("figure") == 2
    assert "<figcaption>a b c</figcaption>" in text
    assert "<figcaption>e &lt; f</figcaption>" in text
    assert "title=" not in text


def test_the_style_knows_dark_screens_and_paper():
    style = documents.page("", Path(), "t")
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style


def test_only_a_whole_emphasised_line_below_a_picture_is_its_caption(tmp_path):
    Image.new("L", (2, 2)).save(tmp_path / "a.png")
    for text in ("![a](a.png) *b*", "![a](a.png)\nb", "![a](a.png)\n*b* c", "![a](a.png)\n*b* and *c*"):
        tags = [tag for tag, _ in read(documents.page(text, tmp_path, "t")).tags]
        assert "figure" not in tags, text
    reader = read(documents.page("![a](a.png)\n*The first `x`, at 95 %.*\n\nMore *text*.", tmp_path, "t"))
    tags = [tag for tag, _ in reader.tags]
    assert tags[tags.index("figure") :] == ["figure", "img", "figcaption", "code", "p", "em"]
