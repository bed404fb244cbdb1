"""What policies cost: a decision with fifty rules, the dearest rules that are allowed, a backtest of a long history.

The decision is timed in this process, from the evidence document to the decision, the making of the engine's values
included. The backtest runs in the worker of a stack of its own, over audits that are written as rows: two hundred
different documents of about six kilobytes, as long as an examined picture's.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from _report import TOY, Line, at_most, sized
from _search_load import create_tenant, settle
from _stack import Client, Watch, beside, stack_in

from ml.auditing import CATEGORIES
from standalone.stack import Stack
from tenants.moderation.expressions import regex_cost
from tenants.moderation.expressions.compiler import compile_expression
from tenants.moderation.expressions.type_checker import MAX_STEPS
from tenants.moderation.rules import document as policy_document
from tenants.moderation.rules.decision import compile_policy, decide

AUDITS = int(os.environ.get("AUDITS") or sized(100_000, 40))
BATCH = 2_000
DOCUMENTS, ROUNDS = sized(200, 4), sized(2_000, 4)
CONDITIONS = (
    *(f"categories.{name}.flagged" for name in CATEGORIES),
    *(f"categories.{name}.score >= 0.9" for name in CATEGORIES),
    "matches.exists(m, m.stance == 'bad' && m.distance <= m.limit)",
    "matches.exists(m, m.stance == 'good' && m.algorithm == 'sha256')",
    "provenance.c2pa.state in ['trusted', 'valid'] && provenance.c2pa.ai",
    "provenance.declared.ai",
    "provenance.watermark.state == 'present'",
    "authenticity.verdict == 'likely_synthetic'",
    "authenticity.tiers.statistical == 'likely_synthetic' && authenticity.probability > 0.9",
    "strikes >= 3 && categories.abuse.flagged",
    "item.modality == 'video' && item.duration_s > 600.0",
    "has(item.metadata.price) && item.metadata.price > 1000",
    "words.exists(w, w.origin == 'picture' && w.text.contains('sale'))",
    "detectors.exists(d, d.state == 'failed')",
    "item.subject.startsWith('new-')",
    "item.media_type in ['image/gif', 'image/webp']",
    "fingerprints.pdq_quality < 20.0",
    "item.width < 64 || item.height < 64",
)
DEAREST = (
    "detectors.all(d, matches.all(n, d.state != n.stance && d.name != n.name))",
    "matches.filter(m, m.distance >= 0.0).filter(m, m.limit >= 0.0).size() > 1000",
    "words.exists(w, w.text.matches('(?i)free money'))",
    "item.subject.matches('.{100}x')",
)
PATTERNS = ("free money", "(a|b| )*z", r"\w+@\w+", r"\d{6}", ".{100}z", "(?i)straße", r"\pL{4}", "[^a]{30}")


def run(out: Path) -> list[Line]:
    lines = [*decisions(), *dearest()]
    return [*lines, *backtests(out)]


# --- Decisions -------------------------------------------------------------------------------------------


def fifty_rules() -> dict[str, Any]:
    rules = [
        {
            "id": f"rule-{place}",
            "when": CONDITIONS[place % len(CONDITIONS)],
            "then": ("review", "block", "label")[place % 3],
            "reason": "Measured.",
            "labels": ["seen"],
        }
        for place in range(50)
    ]
    return policy_document.read_document({"rules": rules, "thresholds": {"abuse": 0.9, "hate": 0.8}})


def documents() -> list[dict[str, Any]]:
    """As different as real ones: scores, matches, words and failures vary."""
    chance = random.Random(5)
    return [_document(chance) for _ in range(DOCUMENTS)]


def _document(chance: random.Random) -> dict[str, Any]:
    words = ["summer", "sale", "chair", "table", "free", "offer", "new", "the", "and", "of"]
    match = {
        "list": "01920000-0000-7000-8000-000000000001",
        "name": "withdrawn pictures",
        "stance": "bad",
        "shared": False,
        "algorithm": "pdq",
        "distance": chance.randrange(31),
        "limit": 31,
        "entry": "01920000-0000-7000-8000-000000000002",
    }
    return {
        "item": {
            "modality": "image",
            "media_type": "image/jpeg",
            "bytes": chance.randrange(10_000, 4_000_000),
            "width": 1600,
            "height": 1200,
            "duration_s": 0.0,
            "dataset": "01920000-0000-7000-8000-000000000003",
            "subject": f"seller-{chance.randrange(1000)}",
            "metadata": {"price": chance.randrange(2_000), "title": "A chair", "colour": "red"},
        },
        "authenticity": {
            "verdict": "no_evidence",
            "probability": None,
            "interval": None,
            "tier": "declared",
            "evidence": [],
            "tiers": {
                "cryptographic": "no_evidence",
                "declared": "no_evidence",
                "statistical": "inconclusive",
            },
        },
        "provenance": {
            "c2pa": {"state": "absent", "ai": False, "own": False},
            "declared": {"state": "none", "generator": "", "ai": chance.random() < 0.05},
            "watermark": {"state": "absent"},
        },
        "categories": {name: _category(chance) for name in CATEGORIES},
        "matches": [match] * (chance.random() < 0.03),
        "fingerprints": {"sha256": "ab" * 32, "pdq": "cd" * 32, "pdq_quality": chance.randrange(100)},
        "words": [
            {"text": " ".join(chance.choices(words, k=12)), "origin": "picture", "at_s": None}
            for _ in range(chance.randrange(10))
        ],
        "detectors": [
            {
                "name": f"detector-{place}",
                "version": "1",
                "tier": "statistical",
                "state": "examined",
                "reason": "",
                "score": None,
                "cpu_s": 0.02,
                "pictures": [],
                "evidence": [{"kind": "note", "text": "measured"}],
            }
            for place in range(14)
        ],
        "could_not_look": ["ocr"] * (chance.random() < 0.01),
        "strikes": chance.randrange(4),
    }


def _category(chance: random.Random) -> dict[str, Any]:
    if chance.random() < 0.3:
        return {"state": "not_examined", "flagged": False, "score": None, "detector": "", "evidence": []}
    score = chance.random() ** 6
    spans = [{"detector": "abuse", "kind": "span", "start": 3, "end": 9, "origin": "text"}] * 2
    shown = {"severity": None, "calibrated": True, "interval": [score, score], "threshold": None}
    return {
        "state": "examined",
        "flagged": False,
        "score": score,
        "detector": "abuse",
        "evidence": spans,
        **shown,
    }


def decisions() -> list[Line]:
    policy, found = fifty_rules(), documents()
    ready = compile_policy(policy)
    size = statistics.mean(len(json.dumps(document)) for document in found)
    whole = timed(lambda document: decide(policy, document), found)
    alone = timed(ready.decide, found)
    values = timed(ready.view.of, found)
    return [
        Line("documents of, on average", round(size), "bytes"),
        at_most("50 rules over evidence, median", statistics.median(whole), 0.5),
        Line("  the same, 99 of 100 within", round(statistics.quantiles(whole, n=100)[98], 3), "ms"),
        Line("  with the policy compiled and at hand, median", round(statistics.median(alone), 3), "ms"),
        Line("  of which choosing what rules may see", round(statistics.median(values), 3), "ms"),
    ]


def timed(act: Callable[[Any], Any], over: list[Any], rounds: int = ROUNDS) -> list[float]:
    """Milliseconds of each call, after a round to warm up."""
    took = []
    for place in range(rounds + len(over)):
        document = over[place % len(over)]
        start = time.perf_counter()
        act(document)
        took.append((time.perf_counter() - start) * 1000)
    return took[len(over) :]


# --- Bounds ----------------------------------------------------------------------------------------------


def dearest() -> list[Line]:
    """Rules and patterns that come near what is allowed, on lists and texts of the greatest size."""
    full = _document(random.Random(1)) | {
        "words": [{"text": "ab " * 99, "origin": "text", "at_s": None}] * 40,
        "matches": [_full_match()] * 50,
        "detectors": [{"name": "d" * 60, "state": "examined"}] * 50,
    }
    full["item"]["subject"] = "s" * 500
    worst, lines = 0.0, []
    for text in DEAREST:
        rule = {"id": "r", "when": text, "then": "review", "reason": "Measured."}
        ready = compile_policy(policy_document.read_document({"rules": [rule]}))
        took = statistics.median(timed(ready.decide, [full] * 5, 100))
        steps = compile_expression(text).inspection.steps
        worst = max(worst, took * 1000 / steps)
        lines.append(Line(f"  {text[:54]}", round(took, 2), "ms", f"{steps:,.0f} steps"))
    for pattern in PATTERNS:
        worst = max(worst, _compile_us(pattern) / regex_cost.regex_cost(pattern))
    return [
        Line("steps that one rule may take", MAX_STEPS, "steps"),
        *lines,
        at_most("microseconds that a step takes, worst of all rules and patterns", worst, 2.0, "us"),
    ]


def _full_match() -> dict[str, Any]:
    return {
        "list": "l",
        "name": "n" * 100,
        "stance": "bad",
        "algorithm": "pdq",
        "distance": 1.0,
        "limit": 2.0,
    }


def _compile_us(pattern: str) -> float:
    import cel

    program, context = cel.compile("''.matches(p)"), cel.Context({"p": pattern})
    return 1000 * statistics.median(timed(lambda _: program.execute(context), [None] * 5, 100))


# --- Backtests -------------------------------------------------------------------------------------------


def backtests(out: Path) -> list[Line]:
    home = out / "policy-stack"
    shutil.rmtree(home, ignore_errors=True)
    with stack_in(home, demo=False, processes=("web", "worker-general", "beat")) as stack:
        start = time.perf_counter()
        client = Client(stack, key=beside(stack, "_audit_policy", {"audits": AUDITS})["key"])
        print(f"wrote {AUDITS:,} audits in {time.perf_counter() - start:.0f} s", file=sys.stderr)
        made = client.send("POST", "/policies", json=fifty_rules())
        path = f"/policies/{made['policy']['id']}/backtest"
        lines = [*_whole(stack, client, path), *_cancelled(client, path)]
    shutil.rmtree(home, ignore_errors=True)
    return lines


def main(stack: Stack, given: dict[str, int]) -> dict[str, str]:
    """Beside the stack: a new tenant with its audits, as rows; answers a key that may moderate."""
    from tenants.moderation.models import Audit, Evidence
    from tenants.scope import tenant_scope

    tenant = create_tenant(f"audited-{time.time_ns() % 10**9}", ("read", "write", "moderate"))
    decisions_, known = ("allow", "allow", "allow", "review", "block"), documents()
    for first in range(0, given["audits"], BATCH):
        audits = [
            Audit(
                sha256="ab" * 32, modality="image", source="upload", decision=decisions_[number % 5], mode="enforce",
                verdict="no_evidence", severity=0, evidence_digest="cd" * 32,
            )
            for number in range(first, min(first + BATCH, given["audits"]))
        ]  # fmt: skip
        with tenant_scope(tenant.id):
            Audit.objects.bulk_create(audits)
            Evidence.objects.bulk_create(
                Evidence(audit=audit, document=known[number % DOCUMENTS])
                for number, audit in enumerate(audits)
            )
    settle(stack)
    return {"key": tenant.key}


def _whole(stack: Stack, client: Client, path: str) -> Iterator[Line]:
    before = Watch(stack, "worker-general")
    with before.on():
        time.sleep(sized(1.0, 0.3))
    watch = Watch(stack, "worker-general")
    with watch.on():
        start = time.monotonic()
        job = client.wait(client.send("POST", path, json={"version": 1})["job"]["id"], every_s=0.5)
        took = time.monotonic() - start
    if job["state"] != "succeeded":
        raise RuntimeError(f"The backtest has {job['state']}: {job.get('error')}")
    result = job["result"]
    yield Line("audits looked at", result["audits"], "", f"= {AUDITS:,}", result["audits"] >= AUDITS)
    yield at_most(f"backtest of {AUDITS:,} stored audits, 50 rules", took, 120 * AUDITS / 100_000, "s")
    yield Line("  the worker's processor time", round(job["cost"]["cpu_s"], 1), "s")
    yield at_most("  memory that the worker grew by", watch.peak_mb - before.peak_mb, 64, "MB")
    yield Line("  decisions that would change", result["changed"])


def _cancelled(client: Client, path: str) -> Iterator[Line]:
    job_id = client.send("POST", path, json={"version": 1})["job"]["id"]
    while not ((seen := client.send("GET", f"/jobs/{job_id}"))["progress"]["done"] or seen["finished_at"]):
        time.sleep(0.1)
    start = time.monotonic()
    try:
        client.send("POST", f"/jobs/{job_id}/cancel")
    except RuntimeError:
        if not TOY:
            raise
        # So short a history may have been gone through by then.
    job = client.wait(job_id, every_s=0.05)
    took = time.monotonic() - start
    stopped = job["state"] == "cancelled"
    yield Line(
        "a running one that is cancelled has ended after", round(took, 2), "s", "<= 5", stopped and took <= 5
    )
