"""The shapes of answers, for the OpenAPI document. Answers are made by the selectors; a test compares the two."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers as s

from tenants.accounts.permissions import ROLES, SCOPES
from tenants.datasets.models import Asset as AssetRow
from tenants.datasets.models import Dataset as DatasetRow
from tenants.jobs.models import Job as JobRow
from tenants.jobs.models import JobNote

NULL: dict[str, Any] = {"allow_null": True}
MAYBE: dict[str, Any] = {"required": False}


class Object(s.DictField):
    """A JSON object with any members."""


class Progress(s.Serializer):
    done = s.IntegerField()
    total = s.IntegerField()
    failed = s.IntegerField()


class Cost(s.Serializer):
    cpu_s = s.FloatField()
    gpu_s = s.FloatField()


class Job(s.Serializer):
    id = s.CharField()
    kind = s.CharField()
    state = s.ChoiceField(JobRow.State.values)
    cancelling = s.BooleanField(help_text="It was asked to stop and has not ended yet.")
    priority = s.ChoiceField(JobRow.Priority.values, help_text="1 low, 2 normal, 3 high.")
    parent = s.CharField(  # type: ignore[assignment]  # a field, which the class takes out
        **NULL, help_text="The job that queued it as a part of its work."
    )
    progress = Progress()
    log_lines = s.IntegerField(help_text="How many lines its log has had.")
    attempts = s.IntegerField()
    queued_at = s.DateTimeField()
    started_at = s.DateTimeField(**NULL)
    finished_at = s.DateTimeField(**NULL)
    queue_wait_s = s.FloatField(help_text="From queueing to its start, or until now.")
    rate_per_s = s.FloatField(**NULL, help_text="Of its progress, of late; null while it does not move.")
    time_left_s = s.FloatField(**NULL)
    cost = Cost()
    error = Object(**MAYBE)
    result = Object(**MAYBE)


class JobAccepted(s.Serializer):
    job = Job()


class JobLine(s.Serializer):
    number = s.IntegerField(help_text="Counts from 1; of a long log lines in the middle are gone.")
    at = s.DateTimeField()
    level = s.ChoiceField(JobNote.Level.values)
    text = s.CharField()


class Dataset(s.Serializer):
    id = s.CharField()
    name = s.CharField()
    description = s.CharField(allow_blank=True)
    metadata_schema = Object(help_text="Types of metadata keys; `guessed` where nobody declared them.")
    assets = s.IntegerField()
    ready = s.IntegerField()
    retention_days = s.IntegerField(
        **NULL, help_text="Assets are erased when they are older; null keeps them."
    )
    duplicates = s.ChoiceField(DatasetRow.Duplicates.values)
    created_at = s.DateTimeField()


class Scan(s.Serializer):
    state = s.ChoiceField(("clean", "not_scanned"))
    engine = s.CharField(**MAYBE)
    reason = s.ChoiceField(("off", "unreachable", "too-large", "error"), **MAYBE)
    at = s.DateTimeField(**MAYBE)


class Asset(s.Serializer):
    id = s.CharField()
    dataset = s.CharField()
    modality = s.ChoiceField(AssetRow.Modality.values)
    status = s.ChoiceField(AssetRow.State.values)
    external_id = s.CharField(**NULL)
    sha256 = s.CharField()
    bytes = s.IntegerField()
    media_type = s.CharField()
    width = s.IntegerField(**NULL)
    height = s.IntegerField(**NULL)
    filename = s.CharField(**NULL, help_text="Of the file that was uploaded, without folders.")
    caption = s.CharField(allow_blank=True, help_text="The first of its captions.")
    captions = s.ListField(child=s.CharField())
    excerpt = s.CharField(allow_blank=True, help_text="The first words, written or spoken.")
    metadata = Object()
    scan = Scan()
    moderation = s.ChoiceField(
        ("quarantined", "allow", "label", "review", "block"),
        **NULL,
        help_text="Null where nothing was audited.",
    )
    labels = s.ListField(child=s.CharField(), help_text="To be shown with it, such as `ai-generated`.")
    created_at = s.DateTimeField()
    # Of sound and film, once decoded.
    duration_s = s.FloatField(**MAYBE)
    has_sound = s.BooleanField(**MAYBE)
    truncated = s.BooleanField(
        **MAYBE, help_text="Part of the file is damaged or missing; the rest was used."
    )
    examined = Object(**MAYBE, help_text="What was looked for in sound or film, and what was not.")
    error = Object(**MAYBE)


class AssetChanged(s.Serializer):
    asset = Asset()
    job = Job(**NULL)


class AssetAdded(AssetChanged):
    duplicate_of = s.CharField(
        **MAYBE,
        help_text="The earlier asset of the same content in the dataset: beside it, or this very asset where the "
        "dataset skips duplicates.",
    )


class AssetForm(s.Serializer):
    """A file, a text, or a file with texts as its captions."""

    file = s.FileField(**MAYBE)
    upload = s.CharField(**MAYBE, help_text="The id of a finished upload, instead of a file.")
    text = s.CharField(**MAYBE, help_text="Beside a file a caption; may be sent several times.")
    captions = s.CharField(**MAYBE, help_text="A JSON list of further captions, as text.")
    metadata = s.CharField(**MAYBE, help_text="A JSON object, as text.")
    external_id = s.CharField(**MAYBE)


class TranscriptSegment(s.Serializer):
    start_s = s.FloatField()
    end_s = s.FloatField()
    text = s.CharField()
    confidence = s.FloatField()


class Transcript(s.Serializer):
    segments = TranscriptSegment(many=True)


class Key(s.Serializer):
    id = s.CharField()
    name = s.CharField()
    prefix = s.CharField()
    scopes = s.ListField(child=s.ChoiceField(SCOPES))
    created_at = s.DateTimeField()
    expires_at = s.DateTimeField(**NULL)
    last_used_at = s.DateTimeField(**NULL)
    revoked_at = s.DateTimeField(**NULL)


class NewKey(Key):
    token = s.CharField(**NULL, help_text="Shown once; null in a replayed answer.")


class Member(s.Serializer):
    id = s.CharField()
    email = s.CharField()
    name = s.CharField(allow_blank=True)
    role = s.ChoiceField(list(ROLES))
    second_factor = s.BooleanField()
    since = s.DateTimeField()


class Invitation(s.Serializer):
    id = s.CharField()
    email = s.CharField()
    role = s.ChoiceField(list(ROLES))
    created_at = s.DateTimeField()
    expires_at = s.DateTimeField()
    mailed_at = s.DateTimeField(**NULL)


class NewInvitation(Invitation):
    link = s.CharField(**NULL, help_text="Shown once; null where it was mailed, and in a replayed answer.")


class Page(s.Serializer):
    next = s.CharField(**NULL, help_text="The cursor of the next page.")


class DatasetPage(Page):
    results = Dataset(many=True)


class AssetPage(Page):
    results = Asset(many=True)


class JobPage(Page):
    results = Job(many=True)


class JobLog(Page):
    results = JobLine(many=True)


class KeyPage(Page):
    results = Key(many=True)


class MemberPage(Page):
    results = Member(many=True)


class InvitationPage(Page):
    results = Invitation(many=True)


class UsageDay(s.Serializer):
    day = s.DateField()
    kind = s.CharField()
    amount = s.FloatField()


class Usage(Page):
    results = UsageDay(many=True)


class TenantName(s.Serializer):
    id = s.CharField()
    slug = s.CharField()
    name = s.CharField()


class PlanName(s.Serializer):
    slug = s.CharField()
    name = s.CharField()
    rate_per_minute = s.IntegerField(**NULL)


class KeyName(s.Serializer):
    id = s.CharField()
    prefix = s.CharField()


class Quota(s.Serializer):
    used = s.FloatField()
    reserved = s.FloatField()
    limit = s.FloatField(**NULL, help_text="Null: unlimited.")


class Quotas(s.Serializer):
    requests = Quota()
    assets = Quota()
    bytes = Quota()
    vectors = Quota()
    generations = Quota()
    cpu_s = Quota()
    gpu_s = Quota()


class Me(s.Serializer):
    key = KeyName()
    scopes = s.ListField(child=s.ChoiceField(SCOPES))
    tenant = TenantName()
    plan = PlanName()
    malware_scan = s.ChoiceField(("off", "on", "unreachable"))
    quotas = Quotas()
