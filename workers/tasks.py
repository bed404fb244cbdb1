"""The tasks, thin: each names its body. A job's task is `workers.<kind>` and takes (job id, tenant id)."""

from __future__ import annotations

import time
import uuid

from celery import shared_task
from django.db import close_old_connections

from tenants.accounts import passwords
from tenants.events import deliveries, notices, quota_watch
from tenants.jobs import bell
from tenants.jobs.kinds import QUEUES
from tenants.learning import finetuning
from tenants.moderation import backtests, sealing
from tenants.people import acting, invitations
from tenants.pipeline.assets import backfill_embeddings, embedding, reindexing
from tenants.pipeline.audits import auditing, rescan
from tenants.pipeline.care import erasure, subject_erasure
from tenants.pipeline.generation import generating
from tenants.pipeline.transfer import exports, import_job, merging
from tenants.pipeline.upkeep import operator_acts, periodic
from tenants.retrieval import building, gate_training, moving
from tenants.retrieval.maps import job as drawing
from workers.base import JobTask, run_job, run_next


@shared_task(base=JobTask, name=bell.TASK)
def next_job(queue: str) -> None:
    run_next(queue)


@shared_task(base=JobTask, name="workers.embed_asset")
def embed_asset(job_id: str, tenant_id: str) -> None:
    run_job(job_id, tenant_id, embedding.embed_asset)


@shared_task(base=JobTask, name="workers.embed_media")
def embed_media(job_id: str, tenant_id: str) -> None:
    run_job(job_id, tenant_id, embedding.embed_asset)


@shared_task(base=JobTask, name="workers.import_assets")
def import_assets(job_id: str, tenant_id: str) -> None:
    run_job(job_id, tenant_id, import_job.run_import)


@shared_task(base=JobTask, name="workers.embed_beside")
def embed_beside(job_id: str, tenant_id: str) -> None:
    run_job(job_id, tenant_id, backfill_embeddings.embed_beside)


@shared_task(base=JobTask, name="workers.delete_dataset")
def delete_dataset(job_id: str, tenant_id: str) -> None:
    run_job(job_id, tenant_id, erasure.erase_dataset)


@shared_task(base=JobTask, name="workers.merge_copies")
def merge_copies(job_id: str, tenant_id: str) -> None:
    run_job(job_id, tenant_id, merging.merge_copies)


@shared_task(base=JobTask, name="workers.erase_subject")
def erase_subject(job_id: str, tenant_id: str) -> None:
    run_job(job_id, tenant_id, subject_erasure.erase_subject)


@shared_task(base=JobTask, name="workers.export_tenant")
def export_tenant(job_id: str, tenant_id: str) -> None:
    run_job(job_id, tenant_id, exports.export_tenant)


@shared_task(base=JobTask, name="workers.reindex_metadata")
def reindex_metadata(job_id: str, tenant_id: str) -> None:
    run_job(job_id, tenant_id, reindexing.reindex_metadata)


@shared_task(base=JobTask, name="workers.build_index")
def build_index(job_id: str, tenant_id: str) -> None:
    run_job(job_id, tenant_id, building.build_index)


@shared_task(base=JobTask, name="workers.move_index")
def move_index(job_id: str, tenant_id: str) -> None:
    run_job(job_id, tenant_id, moving.move_index)


@shared_task(base=JobTask, name="workers.project_map")
def project_map(job_id: str, tenant_id: str) -> None:
    run_job(job_id, tenant_id, drawing.project_map)


@shared_task(base=JobTask, name="workers.audit_item")
def audit_item(job_id: str, tenant_id: str) -> None:
    run_job(job_id, tenant_id, auditing.audit_item)


@shared_task(base=JobTask, name="workers.backtest_policy")
def backtest_policy(job_id: str, tenant_id: str) -> None:
    run_job(job_id, tenant_id, backtests.backtest_policy)


@shared_task(base=JobTask, name="workers.match_again")
def match_again(job_id: str, tenant_id: str) -> None:
    run_job(job_id, tenant_id, rescan.match_again)


@shared_task(base=JobTask, name="workers.train_gate")
def train_gate(job_id: str, tenant_id: str) -> None:
    run_job(job_id, tenant_id, gate_training.train_gate)


@shared_task(base=JobTask, name="workers.finetune")
def finetune(job_id: str, tenant_id: str) -> None:
    run_job(job_id, tenant_id, finetuning.finetune)


@shared_task(base=JobTask, name="workers.generate")
def generate(job_id: str, tenant_id: str) -> None:
    run_job(job_id, tenant_id, generating.generate)


@shared_task(name="workers.sweep_jobs")
def sweep_jobs() -> None:
    bell.sweep()


@shared_task(name="workers.flush_usage")
def flush_usage() -> None:
    periodic.flush_usage()


@shared_task(name="workers.collect_garbage")
def collect_garbage() -> None:
    periodic.collect_garbage()


@shared_task(name="workers.seal_records")
def seal_records() -> None:
    sealing.seal_all()


@shared_task(name="workers.deliver_webhooks")
def deliver_webhooks(webhook_id: str, tenant_id: str) -> None:
    close_old_connections()
    try:
        deliveries.deliver(uuid.UUID(webhook_id), uuid.UUID(tenant_id))
    finally:
        close_old_connections()


@shared_task(name="workers.sweep_webhooks")
def sweep_webhooks() -> None:
    deliveries.sweep()


@shared_task(name="workers.watch_quotas")
def watch_quotas() -> None:
    quota_watch.watch_all()


@shared_task(name="workers.erase_tenant")
def erase_tenant(slug: str) -> None:
    operator_acts.run_erasure(slug)


@shared_task(name="workers.tend_operators")
def tend_operators() -> None:
    """End what operators began and time has ended; go on with erasures whose worker was stopped."""
    acting.end_expired()
    operator_acts.resume_erasures()


# A mail server that is away for some minutes loses no letter.
PATIENT = {"autoretry_for": (OSError,), "retry_backoff": 5, "max_retries": 6}


@shared_task(name="workers.mail_invitation", **PATIENT)
def mail_invitation(invitation_id: str) -> None:
    invitations.mail_invitation(uuid.UUID(invitation_id))


@shared_task(name="workers.mail_reset", **PATIENT)
def mail_reset(email: str) -> None:
    passwords.mail_reset_link(email=email)


@shared_task(name="workers.mail_webhook_disabled", **PATIENT)
def mail_webhook_disabled(webhook_id: str, tenant_id: str) -> None:
    notices.mail_disabled(uuid.UUID(webhook_id), uuid.UUID(tenant_id))


@shared_task(name="workers.ring_canaries")
def ring_canaries() -> None:
    """Send a canary down every queue: a worker that looks alive but consumes nothing lets its canary age."""
    for queue in QUEUES:
        canary.apply_async(args=[queue, time.time()], queue=queue, expires=60)


@shared_task(name="workers.canary")
def canary(queue: str, sent_at: float) -> None:
    periodic.note_canary(queue, sent_at)
