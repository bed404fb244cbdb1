"""Django's command line; the only file that edits the import path."""

import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "platform"))


def add_database_roles():
    """Beside the settings of the stack, the roles that its web server and workers do not have (docs/operating.md)."""
    path = Path(os.environ.get("DATA_DIR") or ROOT / "var") / "manage.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    os.environ.update({name: value for name, value in known.items() if name not in os.environ})


if __name__ == "__main__":
    add_database_roles()
    # A command prints what it was asked for; LOG_LEVEL=INFO shows the rest.
    os.environ.setdefault("LOG_LEVEL", "WARNING")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
