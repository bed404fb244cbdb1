"""What the stack is told from outside, read once from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from standalone.errors import StackError

ROOT = Path(__file__).resolve().parents[2]
DEMO_FILES = ROOT / "platform" / "standalone" / "demo_data"
APP_PROCESSES = (
    "web",
    "worker-embed",
    "worker-bulk",
    "worker-audit",
    "worker-train",
    "worker-generate",
    "worker-hooks",
    "worker-general",
    "beat",
)
# Of the database's roles that not every process may be: the one that bypasses row-level security, and the owner's.
PRIVILEGED = ("OPERATOR_DATABASE_URL", "MIGRATION_DATABASE_URL")


@dataclass(frozen=True)
class StackConfig:
    """One stack: where it keeps its data, where it listens, what is embedded."""

    data_dir: Path
    host: str
    port: int
    environ: Mapping[str, str]

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] | None = None) -> StackConfig:
        given = dict(os.environ if environ is None else environ)
        port = given.get("PORT", "8000")
        if not port.isdigit() or not 0 < int(port) < 65536:
            raise StackError(f"PORT must be a number between 1 and 65535, not {port!r}.")
        data_dir = Path(given.get("DATA_DIR") or ROOT / "var").resolve()
        return cls(data_dir, given.get("HOST") or "127.0.0.1", int(port), given)

    @property
    def run_dir(self) -> Path:
        return self.data_dir / "run"

    @property
    def log_dir(self) -> Path:
        return self.data_dir / "log"

    @property
    def models_dir(self) -> Path:
        return Path(self.environ.get("CROSSLIGHT_MODELS") or self.data_dir / "models").resolve()

    @property
    def base_url(self) -> str:
        return f"http://{self._bracketed(self.host)}:{self.port}"

    @property
    def local_url(self) -> str:
        """Where this machine itself reaches the web process, also when it listens on every address."""
        wildcard = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - compared, not bound
        return f"http://{self._bracketed(wildcard.get(self.host, self.host))}:{self.port}"

    @property
    def min_free_mb(self) -> int:
        return int(self.environ.get("MIN_FREE_MB") or 500)

    @property
    def embeds_postgres(self) -> bool:
        return not self.environ.get("DATABASE_URL")

    def check_roles(self) -> None:
        """Raise if an external database is named without the role for work across tenants."""
        if not self.embeds_postgres and not self.environ.get("OPERATOR_DATABASE_URL"):
            raise StackError(
                "Set OPERATOR_DATABASE_URL as well as DATABASE_URL: work across tenants has a role of its own, which "
                "platform/standalone/provision.sql makes (docs/operating.md, An external database)."
            )

    @property
    def embeds_valkey(self) -> bool:
        return not self.environ.get("REDIS_URL")

    @property
    def seeds_demo(self) -> bool | None:
        """True or False where DEMO says so; None leaves it to whether the embedded database is empty."""
        told = self.environ.get("DEMO", "").lower()
        return None if told == "" else told in {"1", "true", "yes", "on"}

    @staticmethod
    def _bracketed(host: str) -> str:
        return f"[{host}]" if ":" in host else host
