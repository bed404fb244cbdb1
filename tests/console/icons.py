"""Which icons the console names. `python -m tests.console.icons` writes the list that its sprite is built from."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

PLATFORM = Path(__file__).resolve().parents[2] / "platform"
CONSOLE = PLATFORM / "console"
LISTED = CONSOLE / "frontend" / "src" / "icons.json"


def named() -> set[str]:
    """By templates, by the navigation, and by what the first page worries about."""
    from backoffice.navigation import navigation
    from console.context_processors import NAVIGATION

    folders = (CONSOLE / "templates", PLATFORM / "backoffice" / "templates")
    templates = "".join(path.read_text() for folder in folders for path in folder.rglob("*.html"))
    overview = (CONSOLE / "home.py").read_text()
    return {
        *re.findall(r'{% icon "([a-z0-9-]+)"', templates),
        *re.findall(r'AttentionItem\(.*"([a-z0-9-]+)"(?:, broken=.*)?\)$', overview, re.MULTILINE),
        *(symbol for _, entries in (*NAVIGATION, *navigation()) for _, _, symbol, _ in entries),
    }


def listed() -> set[str]:
    return set(json.loads(LISTED.read_text()))


def main() -> None:
    import django

    django.setup()
    words = ", ".join(f'"{name}"' for name in sorted(named()))
    LISTED.write_text(
        "[\n" + textwrap.indent(textwrap.fill(words, 110, break_on_hyphens=False), "  ") + "\n]\n"
    )


if __name__ == "__main__":
    main()
