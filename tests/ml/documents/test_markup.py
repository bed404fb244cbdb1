"""HTML, Markdown and e-mail."""

from __future__ import annotations

from ml.documents import Document
from tests.ml.documents.conftest import Read


def blocks(document: Document) -> list[tuple[str, str]]:
    return [(block.kind, document.text_of(block)) for block in document.blocks]


def test_markdown(read: Read) -> None:
    text = (
        '---\ntitle: "My note"\n---\n# Head\n\nOne *line*\nand two 中文\n混排\n\n- a\n- b\n  - c\n\n'
        "| A | B |\n|---|---|\n| 1 | 2 |\n\n```\nx = 1\ny = 2\n```\n"
    )
    document = read(text.encode(), "a.md")
    assert (document.format, document.title, document.page_count) == ("markdown", "My note", 1)
    assert blocks(document) == [
        ("heading", "Head"),
        ("paragraph", "One line and two 中文混排"),
        ("list", "- a\n- b\n- c"),
        ("table", "A | B\n1 | 2"),
        ("paragraph", "x = 1\ny = 2"),
    ]


def test_html(read: Read) -> None:
    text = """<!doctype html><html><head><title>T</title><style>.x, p.y {display: none}</style></head><body>
    <nav>Home</nav><h1>Hi</h1><p>a<br>b <b>c</b></p><p class=y>secret</p><span style="font-size:0">two</span>
    <table><caption>All</caption><tr><th>A<th>B<tr><td>1<td>2</table>
    <form action="https://evil.example/x"><input name=a></form><img src="https://t.example/p.gif" onload="x()">
    <script>1</script><footer>(c)</footer></body></html>"""
    document = read(text.encode(), "a.html")
    assert document.title == "T"
    assert blocks(document) == [
        ("heading", "Hi"),
        ("paragraph", "a\nb c"),
        ("caption", "All"),
        ("table", "A | B\n1 | 2"),
        ("header", "Home"),
        ("footer", "(c)"),
    ]
    assert [(finding.kind, finding.detail) for finding in document.findings] == [
        ("active_content", "A form that sends what is typed to evil.example"),
        ("active_content", "Remote pictures or media from t.example, which were not fetched"),
        ("active_content", "Scripts in attributes (such as onclick), which were not run"),
        ("active_content", "Scripts, which were not run"),
        ("hidden_text", "Text that a reader does not see (hidden by a style sheet): secret"),
        ("hidden_text", "Text that a reader does not see (hidden by its style): two"),
    ]
