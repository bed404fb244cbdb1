"""Content auditing, measured part by part (`make bench-audit`).

Provenance, known content, statistics, nudity, text, reviewers' decisions, policies, and what all of it costs.
`PARTS=text,policy` runs some. Sets come from ../shared/data (or CROSSLIGHT_DATA); where one is absent its lines say so.
Writes var/bench/audit.json.
"""

from __future__ import annotations

from _data import OUT
from _parts import run_parts

PARTS = {
    "provenance": "Provenance: signatures, declarations, watermarks",
    "known": "Known content: hashes and neighbours",
    "statistics": "Statistics: manipulated pictures, synthetic speech",
    "nudity": "Nudity: harmless pictures that are flagged",
    "text": "Text: abuse, hate, personal data",
    "decisions": "Reviewers' decisions: what 200 of them save",
    "policy": "Policies: decisions and backtests",
    "throughput": "What an audit costs",
}

TOYS = ("text", "decisions", "policy")


def main() -> int:
    (OUT / "audit").mkdir(parents=True, exist_ok=True)
    return run_parts("audit", PARTS, lambda part: part.run(OUT / "audit"), TOYS)


if __name__ == "__main__":
    raise SystemExit(main())
