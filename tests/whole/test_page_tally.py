"""What the page counts, and what it advises: its pure modules, asked in a real Chromium."""

import json
from typing import Any

import pytest

from tests.browser import Tab

pytestmark = [pytest.mark.whole, pytest.mark.browser]


def tally_of(tab: Tab, *steps: str) -> dict[str, Any]:
    """What a tally says after *steps*, in which it is `t`, and `said` makes a publication."""
    result: dict[str, Any] = tab.evaluate(
        f"""import("./static/tally.js").then(({{ Tally, verdict }}) => {{
            const t = new Tally();
            const said = (offset, number, run = "a", more = {{}}) =>
                t.hear({{ offset, data: number ? {{ run, number, ...more }} : "text" }});
            {";".join(steps)};
            return {{
                heard: t.heard, missing: t.missing, doubled: t.doubled, ...verdict(t),
            }};
        }})"""
    )
    return result


def counted(tab: Tab, *steps: str) -> tuple[int, int, int, str]:
    tally = tally_of(tab, *steps)
    return tally["heard"], tally["missing"], tally["doubled"], tally["is"]


def test_what_came_in_order_is_good(tab: Tab) -> None:
    assert counted(tab) == (0, 0, 0, "nothing")
    steps = ("t.begin(4)", "said(5, 1)", "said(6)", "said(7, 9, 'b')", "said(8, 2)")
    assert counted(tab, *steps) == (3, 0, 0, "good")
    assert counted(tab, "t.begin()", "said(0, 1)", "said(0, 2)", "said(0)") == (2, 0, 0, "good")


def test_what_is_absent_is_counted_until_it_comes(tab: Tab) -> None:
    lost = ("t.begin(0)", "said(1, 1)", "said(4, 4)")
    assert counted(tab, *lost) == (2, 2, 0, "bad")
    assert counted(tab, *lost, "said(3, 3)") == (3, 1, 0, "bad")
    assert counted(tab, *lost, "said(3, 3)", "said(2, 2)") == (4, 0, 0, "good")


def test_the_first_number_after_the_subscription_counts_by_its_offset(tab: Tab) -> None:
    assert counted(tab, "t.begin(4)", "said(6, 7)") == (1, 1, 0, "bad")


def test_what_has_no_number_is_missed_by_its_offset(tab: Tab) -> None:
    assert counted(tab, "t.begin(0)", "said(1, 1)", "said(3, 2)") == (2, 1, 0, "bad")


def test_what_came_twice_is_doubled_unless_it_was_said_twice(tab: Tab) -> None:
    assert counted(tab, "t.begin(0)", "said(1, 1)", "said(1, 1)") == (2, 0, 1, "bad")
    assert counted(tab, "t.begin()", "said(0, 1)", "said(0, 1)") == (2, 0, 1, "bad")
    again = "said(2, 1, 'a', { again: true })"
    assert counted(tab, "t.begin(0)", "said(1, 1)", again) == (2, 0, 0, "good")
    assert counted(tab, "t.begin(0)", "said(1, 1)", again, again) == (3, 0, 1, "bad")


def test_a_gap_that_the_server_tells_of_is_no_loss_but_is_said(tab: Tab) -> None:
    steps = ("t.begin(0)", "said(1, 1)", "t.gap(7)", "said(8, 9)")
    assert counted(tab, *steps) == (2, 0, 0, "told")
    assert counted(tab, *steps, "said(10, 10)") == (3, 1, 0, "bad")
    before = ("t.begin(0)", "said(1, 1)", "said(3, 3)", "t.gap(7)")
    assert counted(tab, *before) == (2, 1, 0, "bad")


def test_what_only_looks_like_a_number_is_ignored(tab: Tab) -> None:
    nothing = ["{}", "null", "1", "{run: 'a'}", "{run: 'a', number: 0}", "{run: 1, number: 1}"]
    nothing.append("{run: 'x'.repeat(65), number: 1}")
    nothing.append("{run: 'a', number: 1.5}")
    steps = [f"t.hear({{ data: {each} }})" for each in nothing]
    assert counted(tab, *steps) == (0, 0, 0, "nothing")


def test_who_counts_to_spite_us_is_bounded(tab: Tab) -> None:
    steps = ("t.begin()", "said(0, 1)", "said(0, 2 ** 52)")
    assert counted(tab, *steps)[1] == 2**52 - 2
    many = "for (let i = 0; i < 1000; i++) { said(0, 1, `run ${i}`); said(0, 3, `run ${i}`); }"
    assert counted(tab, "t.begin()", many) == (2000, 1000, 0, "bad")


def asked(tab: Tab, call: str) -> Any:
    return tab.evaluate(f'import("./static/advice.js").then((advice) => advice.{call})')


@pytest.mark.parametrize(
    ("channel", "table"),
    [
        ("lobby", "[channels]"),
        ("chat:a:b", "[namespaces.chat]"),
        ("$chat:a", "[namespaces.chat]"),
        ("$lobby", "[channels]"),
    ],
)
def test_advice_names_the_table_of_the_channel(tab: Tab, channel: str, table: str) -> None:
    assert asked(tab, f"tableOf({json.dumps(channel)})") == table


def test_every_refusal_has_words_of_its_own(tab: Tab) -> None:
    said = [
        asked(tab, f"whyEnded({{ code: {code}, reason: 'because' }}, {token})")[0]
        for code, token in [
            (3501, "false"),
            (3500, "true"),
            (3507, "true"),
            (3503, "true"),
            (1, "true"),
            (3505, "true"),
        ]
    ] + [
        asked(tab, f"whyRefused({{ code: {code}, reason: 'because' }}, 'a:b', false)")[0]
        for code in (102, 103, 105, 107, 444)
    ]
    assert len({*said}) == len(said)
    assert "because (3505)" in said[5]
    assert "because (444)" in said[-1]
    lines = asked(tab, "whyRefused({ code: 103, reason: '' }, 'a:b', false)")[1]["lines"]
    assert "allow_subscribe_for_anonymous = true" in lines
    lines = asked(tab, "whyRefused({ code: 103, reason: '' }, 'a:b', true)")[1]["lines"]
    assert "allow_subscribe_for_anonymous" not in lines
    assert asked(tab, "whyNot('history', { code: 2, message: 'x' }, 'a:b')").startswith("No answer")
