"""What an alert of deploy/monitoring/alerts.yaml means, and which checks look for its cause."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Alert:
    """`checks` are names of the doctor's; the runbook (docs/runbooks.md) has a section of the alert's name."""

    meaning: str
    checks: tuple[str, ...]


_ERRORS = Alert(
    "Requests of the API are answered with a server error faster than the objective allows: 99.9 % of a month.",
    ("database", "valkey", "storage", "disk", "models", "migrations"),
)
_SLOW = Alert(
    "Searches take longer than 250 ms more often than the objective allows: 1 % of a month.",
    ("database", "valkey", "valkey-memory", "indexes", "index-builds", "encoders", "models"),
)
_LATE = Alert(
    "Jobs wait longer than five minutes for a worker more often than the objective allows: 1 % of a month.",
    ("broker", "workers", "canaries", "overdue-jobs", "stuck-jobs"),
)

ALERTS = {
    "CrosslightApiErrorsFast": _ERRORS,
    "CrosslightApiErrorsSlowly": _ERRORS,
    "CrosslightSearchSlowFast": _SLOW,
    "CrosslightSearchSlowSlowly": _SLOW,
    "CrosslightJobsLateFast": _LATE,
    "CrosslightJobsLateSlowly": _LATE,
    "CrosslightWebDown": Alert(
        "A web process does not answer Prometheus: it is down, hangs, or refuses the token.",
        ("database", "migrations", "secret-key", "disk"),
    ),
    "CrosslightMetricsIncomplete": Alert(
        "A web process answers but cannot read its queues: Postgres or Valkey is away, for searches, too.",
        ("database", "database-role", "valkey"),
    ),
    "CrosslightWorkersAbsent": Alert(
        "No worker has reported itself: nothing that waits is done.", ("broker", "workers")
    ),
    "CrosslightCanaryOld": Alert(
        "A small job that is sent through each queue all the time has not come through one for a quarter of an hour.",
        ("broker", "workers", "canaries", "stuck-jobs"),
    ),
    "CrosslightJobsOverdue": Alert(
        "Jobs whose time to be tried again has passed are not sent again: no scheduler runs, or its upkeep hangs.",
        ("broker", "workers", "overdue-jobs"),
    ),
    "CrosslightJobsFailing": Alert(
        "More than half of the jobs fail. One tenant with damaged files can cause that; so can a missing model.",
        ("models", "decoder", "detectors", "children", "storage", "disk"),
    ),
    "CrosslightIndexBuildsFailed": Alert(
        "Builds of indexes were given up. Searches go on with the index before, or exactly, and become slower.",
        ("indexes", "index-builds", "storage", "disk"),
    ),
    "CrosslightRecallLow": Alert(
        "An index that answers found less of what is there than it should when it was built.",
        ("indexes", "index-builds"),
    ),
    "CrosslightBackupOld": Alert(
        "The last backup of this DATA_DIR is more than two days old.", ("backups", "disk")
    ),
    "CrosslightDiskFull": Alert(
        "Less than a tenth of the disk below DATA_DIR is free. Without room uploads are refused, and Postgres stops.",
        ("disk", "files-without-rows", "backups"),
    ),
}
