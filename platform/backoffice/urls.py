"""The operator's pages, below /operator/."""

from __future__ import annotations

from django.urls import path

from backoffice.views import (
    dashboard,
    erasures,
    exports,
    flags,
    impersonation,
    jobs,
    log,
    plans,
    requests,
    tenants,
    usage,
    workers,
)

app_name = "operator"
urlpatterns = [
    path("", dashboard.index, name="index"),
    path("tenants", tenants.index, name="tenants"),
    path("tenants/new", tenants.create, name="tenants-new"),
    path("tenants/<slug:slug>", tenants.tenant, name="tenant"),
    path("tenants/<slug:slug>/suspend", tenants.suspend, name="tenant-suspend"),
    path("tenants/<slug:slug>/resume", tenants.resume, name="tenant-resume"),
    path("tenants/<slug:slug>/plan", tenants.change_plan, name="tenant-plan"),
    path("tenants/<slug:slug>/trial", tenants.change_trial, name="tenant-trial"),
    path("tenants/<slug:slug>/limits", tenants.change_limits, name="tenant-limits"),
    path("tenants/<slug:slug>/owner", tenants.invite_owner, name="tenant-owner"),
    path("tenants/<slug:slug>/export", exports.request_export, name="tenant-export"),
    path("tenants/<slug:slug>/exports/<uuid:export_id>", exports.content, name="tenant-export-content"),
    path("tenants/<slug:slug>/delete", erasures.delete, name="tenant-delete"),
    path("tenants/<slug:slug>/act", impersonation.begin, name="tenant-act"),
    path("tenants/<slug:slug>/ask", impersonation.ask, name="tenant-ask"),
    path("stop-acting", impersonation.stop, name="stop-acting"),
    path("requests", requests.index, name="requests"),
    path("requests/<uuid:request_id>", requests.show, name="request"),
    path("requests/<uuid:request_id>/grant", requests.grant, name="request-grant"),
    path("requests/<uuid:request_id>/decline", requests.decline, name="request-decline"),
    path("erasures", erasures.index, name="erasures"),
    path("erasures/<uuid:erasure_id>", erasures.receipt, name="erasure"),
    path("plans", plans.index, name="plans"),
    path("plans/new", plans.create, name="plans-new"),
    path("plans/<slug:slug>", plans.plan, name="plan"),
    path("plans/<slug:slug>/delete", plans.delete, name="plan-delete"),
    path("usage", usage.index, name="usage"),
    path("usage/export", usage.export, name="usage-export"),
    path("fleet", workers.index, name="fleet"),
    path("canaries", workers.canaries, name="canaries"),
    path("jobs", jobs.index, name="jobs"),
    path("jobs/retry", jobs.retry_many, name="jobs-retry"),
    path("jobs/<slug:slug>/<uuid:job_id>", jobs.job, name="job"),
    path("jobs/<slug:slug>/<uuid:job_id>/retry", jobs.retry, name="job-retry"),
    path("flags", flags.index, name="flags"),
    path("flags/<slug:name>", flags.change, name="flag"),
    path("log", log.index, name="log"),
]
