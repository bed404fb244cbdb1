"""The shapes of flags, outcomes, appeals and the record, for the OpenAPI document. docs/auditing/review.md explains."""

from __future__ import annotations

from rest_framework import serializers as s

from api import shapes
from tenants.moderation import models

STANDINGS = ("allow", "label", "review", "block")


class Stands(s.Serializer):
    decision = s.ChoiceField(STANDINGS)
    labels = s.ListField(child=s.CharField())  # fields have one too


class Outcome(s.Serializer):
    id = s.CharField()
    review = s.CharField()
    audit = s.CharField()
    kind = s.ChoiceField(models.Review.Kind.values)
    rule = s.CharField(allow_blank=True)
    decision = s.ChoiceField(
        STANDINGS, help_text="Of a row that undoes another: what the item stands at again."
    )
    before = s.CharField(allow_blank=True, help_text="What the item stood at before.")
    labels = s.ListField(child=s.CharField())
    reason = s.CharField(allow_blank=True)
    reviewer = s.CharField()
    batch = s.CharField(**shapes.NULL, help_text="Of a bulk decision, which is undone as a whole.")
    undoes = s.CharField(**shapes.NULL)
    blocked_copies = s.BooleanField()
    created_at = s.DateTimeField()


class Review(s.Serializer):
    id = s.CharField()
    audit = s.CharField()
    asset = s.CharField(**shapes.NULL)
    dataset = s.CharField(**shapes.NULL)
    modality = s.CharField()
    kind = s.ChoiceField(models.Review.Kind.values)
    of_review = s.CharField(**shapes.NULL, help_text="The flag that a second opinion is about.")
    rule = s.CharField()
    reason = s.CharField(allow_blank=True)
    severity = s.IntegerField(help_text="0 to 100.")
    state = s.ChoiceField(models.Review.State.values)
    claimed_by = s.CharField(**shapes.NULL)
    lease_until = s.DateTimeField(**shapes.NULL)
    due_at = s.DateTimeField()
    overdue = s.BooleanField()
    created_at = s.DateTimeField()
    decided_at = s.DateTimeField(**shapes.NULL)
    decision = s.CharField(**shapes.NULL)


class ReviewDetail(Review):
    """Of a second opinion that is not given yet `stands` is null and nothing is shown of what others decided."""

    stands = Stands(allow_null=True)
    flags = Review(many=True, help_text="The item's other flags.")
    outcomes = Outcome(many=True, help_text="Of the item's audit, the oldest first.")
    strikes = s.IntegerField(help_text="Of who sent the item, as they count now.")


class ReviewDecided(Review):
    outcome = Outcome()
    stands = Stands(help_text="What the item is now, by all its flags together.")


class NextReview(s.Serializer):
    review = Review(allow_null=True)


class ReviewPage(shapes.Page):
    results = Review(many=True)


class OutcomePage(shapes.Page):
    results = Outcome(many=True)


class BulkChange(s.Serializer):
    before = s.ChoiceField(STANDINGS)
    after = s.ChoiceField(STANDINGS)
    count = s.IntegerField()


class BulkSample(s.Serializer):
    review = Review()
    before = s.ChoiceField(STANDINGS)
    after = s.ChoiceField(STANDINGS)


class BulkPreview(s.Serializer):
    count = s.IntegerField(help_text="Flags that fit.")
    looked_at = s.IntegerField(help_text="Of so many of them, the oldest, the changes are told.")
    as_of = s.DateTimeField()
    changes = BulkChange(many=True)
    samples = BulkSample(many=True)


class BulkApplied(s.Serializer):
    batch = s.CharField()
    decided = s.IntegerField()
    left = s.IntegerField(help_text="Flags that still fit: call again with this batch.")
    as_of = s.DateTimeField()


class NotUndone(s.Serializer):
    outcome = s.CharField()
    reason = s.CharField()


class BatchUndone(s.Serializer):
    batch = s.CharField()
    undone = s.IntegerField()
    left = NotUndone(many=True)


class QueueAges(s.Serializer):
    open = s.IntegerField()
    claimed = s.IntegerField()
    overdue = s.IntegerField()
    oldest_s = s.FloatField(**shapes.NULL)


class Agreement(s.Serializer):
    items = s.IntegerField()
    agreed = s.IntegerField()
    share = s.FloatField(**shapes.NULL)
    kappa = s.FloatField(**shapes.NULL, help_text="Cohen's; null where it is undefined.")


class PairAgreement(Agreement):
    reviewers = s.ListField(child=s.CharField())


class Agreements(s.Serializer):
    overall = Agreement()
    pairs = PairAgreement(many=True)


class RulePrecision(s.Serializer):
    rule = s.CharField()
    decided = s.IntegerField()
    confirmed = s.IntegerField(help_text="Flags of which people labelled or blocked the item.")
    precision = s.FloatField(**shapes.NULL)
    interval = s.ListField(child=s.FloatField(), **shapes.NULL, help_text="95 %, Wilson.")


class ReviewFigures(s.Serializer):
    days = s.IntegerField()
    queue = QueueAges()
    agreement = Agreements()
    rules = RulePrecision(many=True)


class Appeal(s.Serializer):
    id = s.CharField()
    audit = s.CharField()
    asset = s.CharField(**shapes.NULL)
    review = s.CharField(**shapes.NULL, help_text="Its flag in the queue.")
    reason = s.CharField()
    state = s.ChoiceField(models.Appeal.State.values)
    created_by = s.CharField(allow_blank=True)
    created_at = s.DateTimeField()
    decided_at = s.DateTimeField(**shapes.NULL)


class AppealPage(shapes.Page):
    results = Appeal(many=True)


class AppealDecided(Appeal):
    outcome = Outcome()


class RecordLine(s.Serializer):
    sequence = s.IntegerField()
    kind = s.CharField()
    audit = s.CharField(**shapes.NULL)
    item = s.CharField(**shapes.NULL)
    subject = s.CharField(**shapes.NULL)
    policy_version = s.CharField(**shapes.NULL)
    decision = s.CharField(allow_blank=True)
    actor = s.CharField(allow_blank=True)
    payload_digest = s.CharField(allow_blank=True)
    digest = s.CharField()
    created_at = s.DateTimeField()


class RecordPage(shapes.Page):
    results = RecordLine(many=True)


class RecordBroken(s.Serializer):
    kind = s.ChoiceField(("changed-line", "missing-line", "changed-seal", "missing-seal", "changed-clock"))
    first = s.IntegerField()
    last = s.IntegerField()
    detail = s.CharField()


class RecordReport(s.Serializer):
    ok = s.BooleanField()
    lines = s.IntegerField()
    seals = s.IntegerField()
    unsealed = s.IntegerField(help_text="Lines that no seal covers yet.")
    head = s.CharField(allow_blank=True, help_text="The digest of the newest seal: note it somewhere else.")
    head_last = s.IntegerField()
    broken = RecordBroken(allow_null=True)
    known = s.BooleanField(**shapes.NULL, help_text="Whether the digest `known` is in the chain.")
    next = s.IntegerField(**shapes.NULL, help_text="Where to go on with `first`.")
