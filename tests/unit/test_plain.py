"""What others wrote is shown by a log or a terminal, and never obeyed."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from stream_app.plain import plain


@given(st.text())
def test_nothing_is_left_that_a_terminal_would_obey_and_the_rest_stays(text: str) -> None:
    shown = plain(text)
    assert not {unicodedata.category(sign) for sign in shown} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert len(shown.splitlines()) <= 1
    if shown != text:
        assert shown.encode().decode("unicode_escape", errors="replace")


def test_escapes_are_those_of_python() -> None:
    assert plain("\x1b[31m red\r\n\x9b \u202e\ud800") == "\\x1b[31m red\\r\\n\\x9b \\u202e\\ud800"
    assert plain("größe\u3000\xa0日本 \\ [/]") == "größe\u3000\xa0日本 \\ [/]"
