"""Where everything of 0.1 has gone: every old module, and every public name that has another one, against the sources.

`renames-0.2.json` is the table, `docs/renames-0.2.md` the same for people: `python -m tests.test_renames` writes it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.test_map import ROOT, defined, sources

TABLE: dict[str, Any] = json.loads(Path(__file__).with_name("renames-0.2.json").read_text())
PAGE = ROOT / "docs" / "renames-0.2.md"
NOTHING = "gone"
HEAD = """# What has another name in 0.2

For who has code or habits of 0.1: names of the sources, and settings that operators know. Paths, fields and
events of the API, commands, tables and what lies in a data directory kept theirs.
`tests/test_renames.py` holds this page to the sources.
"""


def page() -> str:
    parts = [HEAD]
    for title, rows in (
        ("Settings", TABLE["settings"]),
        ("Modules", TABLE["modules"]),
        ("Names", TABLE["names"]),
    ):
        if rows:
            lines = [f"| `{old}` | {f'`{new}`' if new else NOTHING} |" for old, new in sorted(rows.items())]
            parts.append("\n".join([f"## {title}", "", "| 0.1 | 0.2 |", "|---|---|", *lines, ""]))
    return "\n".join(parts)


def test_the_page_says_what_the_table_says() -> None:
    assert PAGE.read_text() == page()


@pytest.mark.parametrize("old", sorted(TABLE["modules"]))
def test_a_module_is_where_the_table_says(old: str) -> None:
    new = TABLE["modules"][old]
    assert new is None or new in sources()
    if old in sources():
        # The path serves again: for a package of what was one file, or for what has come from elsewhere.
        taken = (
            sources()[old].name == "__init__.py" or old in TABLE["modules"].values() or old in TABLE["reused"]
        )
        assert taken, f"{old} is still there"


@pytest.mark.parametrize(("old", "new"), sorted(TABLE["names"].items()))
def test_a_name_is_what_the_table_says(old: str, new: str | None) -> None:
    if new is not None:
        module, _, name = new.partition(":")
        assert module in sources()
        assert name in defined(module)
    module, _, name = old.partition(":")
    if module in sources() and old not in TABLE["names"].values():
        assert name not in defined(module, imported=False), f"{name} is still in {module}"


def source_of(*modules: str) -> str:
    return "\n".join(sources()[module].read_text() for module in modules)


@pytest.mark.parametrize(("old", "new"), sorted(TABLE["settings"].items()))
def test_a_setting_has_its_new_name_and_the_old_one_is_known(old: str, new: str | None) -> None:
    settings = source_of(*(module for module in sources() if module.startswith("config.")))
    if new is None:
        assert old not in settings
        return
    assert re.search(rf'"{new}"', settings)
    assert re.search(rf'"{old}"', settings), "the start has to be refused with the new name"


if __name__ == "__main__":
    PAGE.write_text(page())
