import pytest
from markdown_it import MarkdownIt

from resnet_space.common.text import csv_cell, markdown_text, plotly_text

HOSTILE = [
    "<img src=x onerror=window.pwned=1>",
    "<script>window.pwned=1</script>",
    "[x](javascript:window.pwned=1)",
    "![x](http://192.0.2.1/)",
    "`**__~~$x$|",
    "&lt;b&gt;",
    "# a\n\n- b",
    "\\*",
    "plain, with a dash - and 'quotes'",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_shows_a_name_as_it_is(name: str) -> None:
    (paragraph,) = [
        t for t in MarkdownIt("gfm-like", {"linkify": False}).parse(f"x{markdown_text(name)}") if t.children
    ]
    assert paragraph.children is not None
    assert {token.type for token in paragraph.children} <= {"text", "text_special"}
    assert "".join(token.content for token in paragraph.children) == "x" + " ".join(name.split())


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=cmd|'/c calc'!A1", "'=cmd|'/c calc'!A1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("a=1", "a=1"),
        (-1.5, -1.5),
        (3, 3),
        (None, None),
    ],
)
def test_a_csv_cell_is_no_formula_and_a_number_stays_one(value: object, cell: object) -> None:
    assert csv_cell(value) == cell


def test_plotly_gets_no_tags_and_no_entities() -> None:
    assert plotly_text("<b>&lt;") == "&lt;b&gt;&amp;lt;"
