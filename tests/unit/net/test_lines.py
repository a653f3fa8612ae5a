import pytest

from gpuplan.net.lines import LONGEST_LINE, LineSplitter, Tail, defused


def split(*blocks: bytes) -> list[str]:
    splitter = LineSplitter()
    return [line for block in blocks for line in splitter.feed(block)] + list(splitter.end())


def test_lines_are_whole_however_they_come() -> None:
    assert ["one", "", "zwölf", "rest"] == split(b"on", b"e\n\nzw\xc3", b"\xb6lf\nre", b"st")


def test_of_a_progress_bar_the_last_writing_is_left() -> None:
    assert ["100%", "done"] == split(b"10%\r50%\r100%\r\n", b"done\r\n")


def test_a_line_without_an_end_is_cut() -> None:
    (line,) = split(b"x" * LONGEST_LINE)

    assert LONGEST_LINE == len(line)


def test_what_is_no_text_is_still_a_line() -> None:
    assert ["a\ufffdb"] == split(b"a\xffb\n")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[1;31merror\x1b[0m", "error"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]52;c;cm0gLXJm\x1b\\after", "after"),
        ("\x1bP1$r0m\x1b\\after", "after"),
        ("\x1b(Bafter\x1bM", "after"),
        ("tab\tstays, bell\x07 does not", "tab\tstays, bell? does not"),
        ("\x9b31mred \u202eback", "?31mred ?back"),
    ],
)
def test_nothing_is_left_that_a_terminal_would_obey(written: str, shown: str) -> None:
    assert shown == defused(written)


def test_a_tail_is_the_last_lines_without_secrets_even_where_they_span_lines() -> None:
    tail = Tail(lambda text: text.replace("se\ncret", "********"))
    for line in [*map(str, range(30)), "my se", "cret \x1b[5mhere", "x" * 500]:
        tail.add(line)

    lines = tail.text.splitlines()
    assert ["28", "29", "my ******** here", "x" * 400] == lines[-4:]
    assert 19 == len(lines)
