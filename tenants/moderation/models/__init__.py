"""Policies, audits, reviews, the record of decisions, and lists of known content."""

from tenants.moderation.models.audits import Audit, AuditPicture, AuditRequest, Evidence
from tenants.moderation.models.known import HashEntry, HashList, SharedHashEntry, SharedHashList
from tenants.moderation.models.policies import (
    Backtest,
    Policy,
    PolicyActivation,
    PolicyVersion,
    ShadowDecision,
)
from tenants.moderation.models.record import Record, RecordClock, Seal
from tenants.moderation.models.reviews import Appeal, Outcome, Review, Strike

__all__ = [
    "Appeal",
    "Audit",
    "AuditPicture",
    "AuditRequest",
    "Backtest",
    "Evidence",
    "HashEntry",
    "HashList",
    "Outcome",
    "Policy",
    "PolicyActivation",
    "PolicyVersion",
    "Record",
    "RecordClock",
    "Review",
    "Seal",
    "ShadowDecision",
    "SharedHashEntry",
    "SharedHashList",
    "Strike",
]
