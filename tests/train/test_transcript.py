"""console.txt keeps what a run shows, over launches and kills."""

import pytest
from rich.table import Table

from jaxvision.train.transcript import Transcript


def lines(folder):
    return (folder / "console.txt").read_text().splitlines()


def test_every_launch_adds_lines(tmp_path):
    for step in (0, 7):
        transcript = Transcript(tmp_path)
        transcript.launch(step, "jaxvision train")
        transcript.add(f"a line after step {step}")
        transcript.close()
    first, told, second, last = lines(tmp_path)
    assert first.startswith("--- 2")
    assert first.endswith(": started by jaxvision train")
    assert second.endswith(": resumed from step 7 by jaxvision train")
    assert (told, last) == ("a line after step 0", "a line after step 7")


def test_a_killed_run_keeps_its_lines_and_half_a_line_ends(tmp_path):
    killed = Transcript(tmp_path)
    killed.add("whole")
    with (tmp_path / "console.txt").open("ab") as file:
        file.write(b"half \xff")
    Transcript(tmp_path).add("next")
    assert lines(tmp_path) == ["whole", "half \ufffd", "next"]


def test_tables_and_characters_that_a_terminal_would_obey(tmp_path):
    table = Table("result", "value")
    table.add_row("val/top1", "50.00%")
    transcript = Transcript(tmp_path)
    transcript.add(table)
    transcript.add("\x1b[31mred\x1b[0m \udcff")
    transcript.close()
    text = (tmp_path / "console.txt").read_text()
    assert "val/top1" in text
    assert "50.00%" in text
    assert "\x1b" not in text
    assert lines(tmp_path)[-1] == "\ufffd[31mred\ufffd[0m \ufffd"


def test_nothing_is_written_by_a_process_that_lost_the_folder(tmp_path):
    def check():
        raise PermissionError("another process writes here")

    with pytest.raises(PermissionError):
        Transcript(tmp_path, check)
    assert not list(tmp_path.iterdir())
