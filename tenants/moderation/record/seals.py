"""Seals over a chain of lines: each digests its lines and the seal before, and is signed.

`seal` runs once a minute by the scheduler. It may be killed anywhere: a seal is one insert, and of two that begin at
the same line the database keeps one. `verify` computes everything anew from the lines themselves.

What a chain cannot show by itself: somebody who may write to the tables as their owner can compute the whole chain
anew from the changed line on, or cut its end off. The first shows by the signatures, for which the master key is
needed; the second, and a chain that the application itself was made to seal anew, only by what is kept elsewhere: each
seal is told to webhooks and in the log, `checkpoints` go to places outside, and `verify(known=…)` asks whether a digest
that was noted elsewhere is still in the chain.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import logging
import uuid
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from django.utils import timezone

from tenants.events import log_lines, webhooks
from tenants.moderation.models import SealRow
from tenants.moderation.record import signatures
from tenants.moderation.record.chains import CHAINS, LOG, RECORD, Chain
from tenants.scope import operator_scope, tenant_scope

log = logging.getLogger(__name__)


# Lines of one seal, and lines read at once.
BATCH = 5_000

SEALS_AT_ONCE = 200

# Of the release before, beside which this one runs for a while, seals come without a signature.
UNSIGNED_FOR = dt.timedelta(days=1)


@dataclass(frozen=True)
class BrokenSeal:
    """The first place where record and seals do not fit.

    `kind`: changed-line, missing-line, added-line, changed-seal, missing-seal, unsigned-seal, forged-seal, or
    changed-clock. `first` to `last` are the lines that it is about.
    """

    kind: str
    first: int
    last: int
    detail: str


@dataclass(frozen=True)
class VerificationReport:
    """What `verify` looked at. `head` is the digest of the newest seal that fits, `head_last` its last line.

    `signed` counts seals with a signature, `rewritten` lines of the audit log from whose events a person was erased.
    `known` says whether the digest that was asked for is in the chain; None if none was. `next` is the line to go on
    with where `at_most` ended the look early.
    """

    lines: int
    seals: int
    unsealed: int
    head: str
    head_last: int
    broken: BrokenSeal | None = None
    known: bool | None = None
    next: int | None = None
    signed: int = 0
    rewritten: int = 0

    @property
    def ok(self) -> bool:
        return self.broken is None and self.known is not False

    def as_dict(self) -> dict[str, Any]:
        return {"ok": self.ok, **asdict(self)}


# --- Sealing -----------------------------------------------------------------------------------------------


def seal_all() -> int:
    """Seal the new lines of every tenant that has some, in both chains; returns how many lines."""
    sealed = 0
    for chain in CHAINS.values():
        for tenant_id in tenants_with_new_lines(chain):
            try:
                sealed += seal(tenant_id, chain)
            except Exception:
                # One tenant's trouble must not keep the others from being sealed.
                log.exception("sealing failed", extra={"tenant": str(tenant_id), "chain": chain.name})
    return sealed


def tenants_with_new_lines(chain: Chain = RECORD) -> list[uuid.UUID]:
    with operator_scope("find records to seal"):
        return chain.behind()


def seal(tenant_id: uuid.UUID, chain: Chain = RECORD) -> int:
    """Seal a tenant's lines up to now, in batches; returns how many lines."""
    numbered = -1
    while numbered:
        with tenant_scope(tenant_id):
            numbered = chain.prepare()
    total = 0
    while count := _seal_some(tenant_id, chain):
        total += count
    return total


def _seal_some(tenant_id: uuid.UUID, chain: Chain) -> int:
    with tenant_scope(tenant_id):
        before = chain.seals.objects.order_by("-first").first()
        first = before.last + 1 if before else 1
        rows = list(chain.lines.objects.filter(sequence__gte=first).order_by("sequence")[:BATCH])
        if not rows:
            return 0
        if rows[0].sequence != first or rows[-1].sequence != first + len(rows) - 1:
            # The seal says what is there; verify says what is missing.
            log.error("lines are missing in the record", extra={"tenant": str(tenant_id), "first": first})
        made = chain.seals(
            tenant_id=tenant_id,
            first=first,
            last=rows[-1].sequence,
            previous=before.digest if before else "",
            created_at=timezone.now(),
        )
        made.digest = digest_seal(made, _hash_digests(row.digest for row in rows))
        signed = signatures.key_ring().sign(message_of(made, chain))
        made.signature, made.key_id = signed.value, signed.key_id
        # Of two that seal at once one wins, and both go on after it.
        chain.seals.objects.bulk_create([made], ignore_conflicts=True)
        if chain.seals.objects.filter(pk=made.pk).exists():
            webhooks.emit("record.sealed", as_told(made, chain))
    log.info(
        "record sealed",
        extra={
            "tenant": str(tenant_id),
            "chain": chain.name,
            "last_line": made.last,
            "digest": made.digest,
        },
    )
    return len(rows)


def as_told(made: SealRow, chain: Chain) -> dict[str, object]:
    """A seal as it is told outside: enough to check its signature, and to ask for it by `known`."""
    return {
        "chain": chain.name,
        "first": made.first,
        "last": made.last,
        "digest": made.digest,
        "previous": made.previous,
        "sealed_at": made.created_at,
        "key": made.key_id,
        "signature": made.signature,
    }


def message_of(seal: SealRow, chain: Chain) -> str:
    """What is signed."""
    return f"crosslight seal 1\n{seal.tenant_id}\n{chain.name}\n{seal.last}\n{seal.digest}"


def _hash_digests(digests: Iterator[str]) -> str:
    folded = hashlib.sha256()
    for digest in digests:
        folded.update(bytes.fromhex(digest))
    return folded.hexdigest()


def digest_seal(seal: SealRow, lines: str) -> str:
    """`lines` is the digest over the digests of its lines."""
    at = seal.created_at.astimezone(dt.UTC).isoformat(timespec="microseconds")
    return hashlib.sha256(f"{seal.previous}\n{seal.first}\n{seal.last}\n{at}\n{lines}".encode()).hexdigest()


# --- Verifying ---------------------------------------------------------------------------------------------


class _Stop(Exception):
    def __init__(self, broken: BrokenSeal) -> None:
        self.broken = broken


def verify(
    tenant_id: uuid.UUID,
    *,
    chain: Chain = RECORD,
    first: int = 1,
    at_most: int | None = None,
    known: str = "",
) -> VerificationReport:
    """Look through lines and seals, in short scopes and a memory that does not grow. Raises KeyUnreadable.

    `first`: begin with the seal of this line and believe the one before it; 1 looks at everything. `at_most`: stop at
    the end of the seal that reaches so many lines. `known`: a digest of a seal that must be there.
    """
    look = _Verification(tenant_id, chain, known)
    try:
        look.begin(first)
        following = look.seals(at_most)
        if following is None:
            look.rest()
    except _Stop as stop:
        return look.report(broken=stop.broken)
    return look.report(following=following)


class _Verification:
    """How far a verification has come."""

    def __init__(self, tenant_id: uuid.UUID, chain: Chain, known: str) -> None:
        self.tenant_id, self.chain, self.wanted = tenant_id, chain, known
        self.lines = self.count = self.unsealed = self.clock = self.signed = self.rewritten = 0
        self.keys = signatures.key_ring()
        self.head, self.at, self.found = "", 0, False

    def report(self, *, broken: BrokenSeal | None = None, following: int | None = None) -> VerificationReport:
        # A part of the chain that was not looked at cannot say that the digest is missing.
        settled = self.wanted and (self.found or following is None)
        return VerificationReport(
            lines=self.lines,
            seals=self.count,
            unsealed=self.unsealed,
            head=self.head,
            head_last=self.at,
            broken=broken,
            known=self.found if settled else None,
            next=following,
            signed=self.signed,
            rewritten=self.rewritten,
        )

    def begin(self, first: int) -> None:
        with tenant_scope(self.tenant_id):
            before = self.chain.seals.objects.filter(last__lt=first).order_by("-first").first()
        if before is not None:
            self.head, self.at = before.digest, before.last
        self._read_clock()

    def _read_clock(self) -> None:
        with tenant_scope(self.tenant_id):
            self.clock = self.chain.clock()

    def seals(self, at_most: int | None) -> int | None:
        """Look at every seal; the line to go on with if it was enough before."""
        while batch := self._next_seals():
            for seal in batch:
                self._seal(seal)
                if at_most is not None and self.lines >= at_most and self.at < self.clock:
                    return self.at + 1
        return None

    def _next_seals(self) -> list[SealRow]:
        with tenant_scope(self.tenant_id):
            # By where a seal ends: one whose beginning was changed is looked at, too.
            rows = self.chain.seals.objects.filter(last__gt=self.at).order_by("first", "last")
            return list(rows[:SEALS_AT_ONCE])

    def _seal(self, seal: SealRow) -> None:
        begin = self.at + 1
        if seal.first > begin:
            detail = f"No seal covers the lines {begin} to {seal.first - 1}."
            raise _Stop(BrokenSeal("missing-seal", begin, seal.first - 1, detail))
        if seal.first < begin or seal.previous != self.head:
            detail = f"The seal of the lines {seal.first} to {seal.last} does not follow the one before it."
            raise _Stop(BrokenSeal("changed-seal", seal.first, seal.last, detail))
        if seal.last > self.clock:
            # Lines that came after this look began; else nobody can have sealed them.
            self._read_clock()
        if seal.last > self.clock:
            detail = f"The counter stands at {self.clock}, and line {seal.last} is sealed."
            raise _Stop(BrokenSeal("changed-clock", self.clock + 1, seal.last, detail))
        lines = self._walk(seal.last)
        if digest_seal(seal, lines) != seal.digest:
            detail = (
                f"The seal of the lines {seal.first} to {seal.last} does not fit them: it was changed, or lines were "
                "changed together with their own digests."
            )
            raise _Stop(BrokenSeal("changed-seal", seal.first, seal.last, detail))
        self._check_signature(seal)
        self.count += 1
        self.head, self.at = seal.digest, seal.last
        self.found = self.found or seal.digest == self.wanted

    def _check_signature(self, seal: SealRow) -> None:
        lines = f"The seal of the lines {seal.first} to {seal.last}"
        if seal.signature:
            if not self.keys.verifies(message_of(seal, self.chain), seal.key_id, seal.signature):
                detail = f"{lines} was not signed by this installation (key {seal.key_id})."
                raise _Stop(BrokenSeal("forged-seal", seal.first, seal.last, detail))
            self.signed += 1
        elif seal.created_at > self.keys.since + UNSIGNED_FOR:
            detail = f"{lines} has no signature, though all were signed when it was made."
            raise _Stop(BrokenSeal("unsigned-seal", seal.first, seal.last, detail))

    def rest(self) -> None:
        """The lines that no seal covers yet."""
        at = self.at
        self._walk(self.clock)
        self.unsealed = self.clock - at
        if self.chain is LOG:
            with tenant_scope(self.tenant_id):
                overlooked = log_lines.count_overlooked()
                self.unsealed += log_lines.count_waiting()
            if overlooked:
                detail = f"The audit log has {overlooked} events from before that were never numbered."
                raise _Stop(BrokenSeal("added-line", at, at, detail))

    def _walk(self, last: int) -> str:
        """Every line up to `last` is there and as it was written; the digest over their digests."""
        folded, at = hashlib.sha256(), self.at
        while at < last:
            rows, digests = self._lines(at, last)
            for row, digest in zip(rows, digests, strict=True):
                self._line(row, digest, at + 1)
                folded.update(bytes.fromhex(row.digest))
                at = row.sequence
                self.lines += 1
            if not rows:
                raise _Stop(BrokenSeal("missing-line", at + 1, last, _missing(at + 1, last)))
        return folded.hexdigest()

    def _lines(self, after: int, last: int) -> tuple[list[Any], list[str]]:
        with tenant_scope(self.tenant_id):
            rows = self.chain.lines.objects.filter(sequence__gt=after, sequence__lte=last)
            found = list(rows.order_by("sequence")[:BATCH])
            return found, self.chain.digests(found)

    def _line(self, row: Any, digest: str, expected: int) -> None:
        if row.sequence != expected:
            detail = _missing(expected, row.sequence - 1)
            raise _Stop(BrokenSeal("missing-line", expected, row.sequence - 1, detail))
        if digest != row.digest:
            detail = f"Line {row.sequence} is not what was written: its digest does not fit."
            raise _Stop(BrokenSeal("changed-line", row.sequence, row.sequence, detail))
        self.rewritten += getattr(row, "why", "") == log_lines.ERASURE


def _missing(first: int, last: int) -> str:
    return f"Line {first} is missing." if first == last else f"The lines {first} to {last} are missing."
