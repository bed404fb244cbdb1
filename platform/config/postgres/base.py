"""The connection that DATABASES names. See the package."""

from __future__ import annotations

import time
from typing import Any

from django.db.backends.postgresql import base

# A check is a round trip of its own. A server that went away within this time fails one request for each connection
# with 503, and the next one connects anew.
TRUSTED_S = 1.0


class DatabaseWrapper(base.DatabaseWrapper):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._checked_at = float("-inf")

    def close_if_health_check_failed(self) -> None:
        if time.monotonic() - self._checked_at < TRUSTED_S and not self.errors_occurred:
            # Done for this request: later, a check could fall into a transaction.
            self.health_check_done = True
        if not self.health_check_done:
            super().close_if_health_check_failed()
            self._checked_at = time.monotonic()

    def chunked_cursor(self) -> Any:
        """Of a transaction: a cursor of the server; else one of the client, which reads all at once.

        Django would declare the former WITH HOLD, for the session, which behind a pooler is another one's at once.
        """
        return self.cursor() if self.get_autocommit() else super().chunked_cursor()
