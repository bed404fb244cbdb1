"""One question about the installation, and running many of them though anything may be broken."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass

from django.db import connections

OK, WARN, FAIL, SKIPPED = "ok", "warn", "fail", "skipped"
# How many examples a finding names.
SHOWN = 3


@dataclass(frozen=True)
class Options:
    """`deep` reads every row and file instead of a sample."""

    deep: bool = False


@dataclass(frozen=True)
class Finding:
    """`verdict` is ok, warn, fail or skipped (what it needs is away); `advice` is empty for ok."""

    verdict: str
    what: str
    advice: str = ""


@dataclass(frozen=True)
class Check:
    """A named question. `needs` names the check without whose success it cannot be asked."""

    name: str
    ask: Callable[[Options], Finding]
    needs: str = ""
    timeout_s: float = 15.0
    deep_timeout_s: float = 15.0
    advice: str = "The error says what; the logs in $DATA_DIR/log say more."


def ok(what: str) -> Finding:
    return Finding(OK, what)


def warn(what: str, advice: str) -> Finding:
    return Finding(WARN, what, advice)


def fail(what: str, advice: str) -> Finding:
    return Finding(FAIL, what, advice)


def examples(items: Iterable[str]) -> str:
    """The first few, and how many more."""
    listed = list(items)
    more = f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else ""
    return ", ".join(listed[:SHOWN]) + more


def examine(checks: Sequence[Check], options: Options) -> dict[str, Finding]:
    """Ask all of them, in order."""
    found: dict[str, Finding] = {}
    for check in checks:
        needed = found.get(check.needs)
        if needed is not None and needed.verdict in (FAIL, SKIPPED):
            found[check.name] = Finding(SKIPPED, f"not examined: see {check.needs}")
        else:
            found[check.name] = _run_with_timeout(check, options)
    return found


def _run_with_timeout(check: Check, options: Options) -> Finding:
    answers: list[Finding] = []
    thread = threading.Thread(target=_run, args=(check, options, answers), name=check.name, daemon=True)
    thread.start()
    limit = check.deep_timeout_s if options.deep else check.timeout_s
    thread.join(limit)
    return answers[0] if answers else fail(f"no answer within {limit:.0f} s", check.advice)


def _run(check: Check, options: Options, answers: list[Finding]) -> None:
    try:
        answers.append(check.ask(options))
    except Exception as error:
        said = str(error).strip().splitlines() or [""]
        answers.append(fail(f"{type(error).__name__}: {said[0][:300]}", check.advice))
    finally:
        connections.close_all()


def as_dicts(found: dict[str, Finding]) -> list[dict[str, str]]:
    return [{"check": name, **asdict(finding)} for name, finding in found.items()]
