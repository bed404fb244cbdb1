"""Labels for codes: states, roles, permissions, kinds of jobs, resources. Codes stay as they are in the API."""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

STATES = {
    "abandoned": pgettext_lazy("state", "abandoned"),
    "active": pgettext_lazy("state", "active"),
    "blocked": pgettext_lazy("state", "blocked"),
    "building": pgettext_lazy("state", "building"),
    "cancelled": pgettext_lazy("state", "cancelled"),
    "candidate": pgettext_lazy("state", "candidate"),
    "claimed": pgettext_lazy("state", "claimed"),
    "closed": pgettext_lazy("state", "closed"),
    "dead": pgettext_lazy("state", "dead"),
    "decided": pgettext_lazy("state", "decided"),
    "disabled": pgettext_lazy("state", "disabled"),
    "draft": pgettext_lazy("state", "draft"),
    "duplicate": pgettext_lazy("state", "duplicate"),
    "embedding": pgettext_lazy("state", "embedding"),
    "ended": pgettext_lazy("state", "ended"),
    "expired": pgettext_lazy("state", "expired"),
    "failed": pgettext_lazy("state", "failed"),
    "gone": pgettext_lazy("state", "gone"),
    "imported": pgettext_lazy("state", "imported"),
    "live": pgettext_lazy("state", "live"),
    "merged": pgettext_lazy("state", "merged"),
    "open": pgettext_lazy("state", "open"),
    "paused": pgettext_lazy("state", "paused"),
    "pending": pgettext_lazy("state", "pending"),
    "queued": pgettext_lazy("state", "queued"),
    "ready": pgettext_lazy("state", "ready"),
    "retired": pgettext_lazy("state", "retired"),
    "revoked": pgettext_lazy("state", "revoked"),
    "running": pgettext_lazy("state", "running"),
    "shadow": pgettext_lazy("state", "shadow"),
    "succeeded": pgettext_lazy("state", "succeeded"),
    "suspended": pgettext_lazy("state", "suspended"),
    "switched": pgettext_lazy("state", "switched"),
    "withdrawn": pgettext_lazy("state", "withdrawn"),
}

# Of an operator's request to work in the workspace.
PLAN_REQUESTS = {
    "open": pgettext_lazy("request", "waits"),
    "granted": pgettext_lazy("request", "granted"),
    "declined": pgettext_lazy("request", "declined"),
    "withdrawn": pgettext_lazy("request", "withdrawn"),
}

OPERATOR_REQUESTS = {
    "pending": pgettext_lazy("request", "waits"),
    "approved": pgettext_lazy("request", "approved"),
    "denied": pgettext_lazy("request", "denied"),
    "revoked": pgettext_lazy("request", "taken back"),
    "expired": pgettext_lazy("request", "ended"),
}

ROLES = {
    "owner": pgettext_lazy("role", "owner"),
    "admin": pgettext_lazy("role", "admin"),
    "editor": pgettext_lazy("role", "editor"),
    "reviewer": pgettext_lazy("role", "reviewer"),
    "viewer": pgettext_lazy("role", "viewer"),
}

# What a role is for, where people are given one.
ROLE_MEANINGS = {
    "owner": _("Can do everything and is the only role that manages owners. A workspace has at least one."),
    "admin": _(
        "Can do everything except manage owners: people, keys, webhooks, exports, erasures, settings."
    ),
    "editor": _("Adds, changes and deletes datasets and assets; searches, trains models, generates."),
    "reviewer": _(
        "Can view everything, search, and handle reviews, audits, policies and hash lists; "
        "can be limited to selected datasets and review queues."
    ),
    "viewer": _("Can view everything and search, but change nothing."),
}

# What a permission opens, in the words of who has it.
SCOPE_MEANINGS = {
    "read": _("see datasets, assets, jobs, models and usage"),
    "write": _("add, change and delete datasets and assets, and import"),
    "search": _("search, and look for what is similar"),
    "train": _("fine-tune models, train classifiers and weights"),
    "moderate": _("audit, review, and write policies and hash lists"),
    "generate": _("generate pictures, clips and sound"),
    "admin": _("manage people, keys, webhooks, exports and settings"),
}

SCOPES = {
    "read": pgettext_lazy("permission", "read"),
    "write": pgettext_lazy("permission", "write"),
    "search": pgettext_lazy("permission", "search"),
    "train": pgettext_lazy("permission", "train"),
    "moderate": pgettext_lazy("permission", "moderate"),
    "generate": pgettext_lazy("permission", "generate"),
    "admin": pgettext_lazy("permission", "admin"),
}

MODALITIES = {
    "text": pgettext_lazy("modality", "text"),
    "image": pgettext_lazy("modality", "image"),
    "audio": pgettext_lazy("modality", "audio"),
    "video": pgettext_lazy("modality", "video"),
}

# What an erasure was about.
ERASED = {
    "asset": _("Asset"),
    "subject": _("Subject"),
    "dataset": _("Dataset"),
    "retention": _("Retention"),
}

RESOURCES = {
    "requests": _("API requests this month"),
    "assets": _("Assets"),
    "bytes": _("Storage"),
    "vectors": _("Vectors"),
    "generations": _("Generations this month"),
    "cpu_s": _("CPU time this month"),
    "gpu_s": _("GPU time this month"),
}

_RETRY = _("Try again. If it fails again, the file is faulty or the operator needs to take a look.")
#: What to do about an asset that could not be processed, by the type of its error.
ADVICE = {
    "corrupt": _("Open the file on your computer, save or export it again, and add that one."),
    "empty": _("There is nothing in it to search. Add another file, and delete this one."),
    "unsupported": _("Convert it to one of the accepted formats and add that file."),
    "too-large": _("Make it smaller or shorter, and add that file."),
    "encrypted": _("Save it without a password, and add that file."),
    "no-text": _("Add a version with text, or its pages as pictures."),
    "timeout": _RETRY,
    "decoder-died": _RETRY,
    "internal-error": _RETRY,
    "unavailable": _("Something it needs was not available. Try again in a moment."),
    "model-unavailable": _("The operator needs to restore the model. Then try again."),
    "storage-full": _("The operator needs to free disk space. Then try again."),
    "quota-exceeded": _(
        "Delete what is no longer needed, or ask the operator for a larger plan. Then try again."
    ),
    "cancelled": _("Try again if you still need it."),
    "": _("Try again."),
}

# What was done, in the audit log.
VERBS = {
    "session.started": _("Signed in"),
    "session.ended": _("Signed out"),
    "session.refused": _("Sign-in refused"),
    "access.refused": _("Access refused"),
    "keys.rotated": _("Encryption keys rotated"),
    "files.encrypted": _("Files encrypted"),
    "asset.added": _("Asset added"),
    "asset.updated": _("Asset updated"),
    "asset.deleted": _("Asset deleted"),
    "asset.retried": _("Asset retried"),
    "asset.moderated": _("Asset moderated"),
    "appeal.opened": _("Appealed against a decision"),
    "appeal.decided": _("Appeal decided"),
    "dataset.created": _("Dataset created"),
    "dataset.updated": _("Dataset updated"),
    "dataset.deleted": _("Dataset deleted"),
    "dataset.merged": _("Copies of files merged"),
    "dataset.version_made": _("Version of a dataset made"),
    "dataset.version_deleted": _("Version of a dataset deleted"),
    "dataset.expired": _("Dataset expired"),
    "import.created": _("Import created"),
    "import.started": _("Import started"),
    "import.finished": _("Import finished"),
    "import.deleted": _("Import deleted"),
    "export.requested": _("Export requested"),
    "hold.set": _("Legal hold set"),
    "hold.released": _("Legal hold released"),
    "erasure.requested": _("Erasure requested"),
    "erasure.finished": _("Erasure finished"),
    "tenant.imported": _("Tenant imported"),
    "tenant.second_factor": _("Changed the two-factor requirement"),
    "member.invited": _("Invited a person"),
    "member.joined": _("Joined"),
    "member.removed": _("Removed a member"),
    "member.role_changed": _("Changed a role"),
    "member.narrowed": _("Changed what a member sees"),
    "member.reset_link_made": _("Made a link for a new password"),
    "invitation.revoked": _("Revoked an invitation"),
    "invitation.link_renewed": _("Made a new link for an invitation"),
    "sign_on.connection_created": _("Single sign-on connection created"),
    "sign_on.connection_updated": _("Single sign-on connection changed"),
    "sign_on.connection_deleted": _("Single sign-on connection deleted"),
    "sign_on.domain_added": _("Domain added"),
    "sign_on.domain_routed": _("Sign-on of a domain chosen"),
    "sign_on.domain_proved": _("Domain proved"),
    "sign_on.domain_withdrawn": _("Domain moved to another workspace by the operator"),
    "sign_on.domain_removed": _("Domain removed"),
    "sign_on.entered": _("Signed in by single sign-on"),
    "sign_on.linked": _("Account linked with the provider"),
    "sign_on.refused": _("Single sign-on refused"),
    "sign_on.break_glass": _("Changed who has an emergency password"),
    "sign_on.break_glass_used": _("Entered by password past single sign-on"),
    "key.created": _("Key created"),
    "key.rotated": _("Key rotated"),
    "key.revoked": _("Key revoked"),
    "key.limited": _("Key’s limits changed"),
    "member.provisioned": _("Added by the identity provider"),
    "member.unprovisioned": _("Dropped by the identity provider"),
    "member.activated": _("Activated a member"),
    "group.provisioned": _("Group added by the identity provider"),
    "group.unprovisioned": _("Group dropped by the identity provider"),
    "role.created": _("Role created"),
    "role.changed": _("Role changed"),
    "role.deleted": _("Role deleted"),
    "provisioning.token_made": _("Provisioning token created"),
    "provisioning.token_rotated": _("Provisioning token rotated"),
    "provisioning.token_revoked": _("Provisioning token revoked"),
    "provisioning.settings_changed": _("Roles of groups changed"),
    "origins.changed": _("Origins changed"),
    "security.changed": _("Security settings changed"),
    "policy.created": _("Policy created"),
    "policy.version_added": _("Policy version added"),
    "policy.backtested": _("Policy backtested"),
    "policy.recalibrated": _("Policy’s thresholds adjusted"),
    "policy.activated": _("Policy activated"),
    "policy.deactivated": _("Policy deactivated"),
    "hash_list.created": _("Hash list created"),
    "hash_list.changed": _("Hash list changed"),
    "hash_list.deleted": _("Hash list deleted"),
    "gate.training_started": _("Gate training started"),
    "gate.trained": _("Gate trained"),
    "gate.retired": _("Gate retired"),
    "task.created": _("Task created"),
    "task.updated": _("Task updated"),
    "task.deleted": _("Task deleted"),
    "classifier.created": _("Classifier defined"),
    "classifier.deleted": _("Classifier deleted"),
    "classifier.labelled": _("Examples of a classifier labelled"),
    "classifier.training_started": _("Classifier training started"),
    "classifier.trained": _("Classifier trained"),
    "classifier.promotion_started": _("Classifier promotion started"),
    "classifier.promoted": _("Classifier promoted"),
    "saved_search.created": _("Search saved"),
    "saved_search.changed": _("Saved search changed"),
    "saved_search.deleted": _("Saved search deleted"),
    "asset.replaced": _("Asset replaced by a later version"),
    "stream_source.created": _("Stream source added"),
    "stream_source.changed": _("Stream source changed"),
    "stream_source.paused": _("Stream source paused"),
    "stream_source.resumed": _("Stream source resumed"),
    "stream_source.deleted": _("Stream source deleted"),
    "stream_source.letters_deleted": _("Dead letters of a stream deleted"),
    "stream_source.letters_replayed": _("Dead letters of a stream tried again"),
    "standing_query.created": _("Standing query added"),
    "standing_query.changed": _("Standing query changed"),
    "standing_query.deleted": _("Standing query deleted"),
    "golden_query.created": _("Golden query created"),
    "golden_query.deleted": _("Golden query deleted"),
    "relevance.calibration_started": _("Calibration of relevance started"),
    "relevance.calibrated": _("Relevance calibrated"),
    "relevance.correction_retired": _("Correction of relevance given up"),
    "result_labels.deleted": _("Labels of a query deleted"),
    "generation.requested": _("Generation requested"),
    "generation.cancelled": _("Generation cancelled"),
    "generation.retried": _("Generation retried"),
    "generation.deleted": _("Generation deleted"),
    "generation.disclosure_changed": _("Visible or audible mark of generated files changed"),
    "model.training_started": _("Model training started"),
    "model.trained": _("Model trained"),
    "model.deleted": _("Model deleted"),
    "model.promotion_started": _("Model promotion started"),
    "model.promotion_abandoned": _("Model promotion abandoned"),
    "model.promoted": _("Model promoted"),
    "model.rolled_back": _("Model rolled back"),
    "tenant.opened": _("Tenant opened"),
    "tenant.owner_invited": _("Owner invited"),
    "tenant.suspended": _("Tenant suspended"),
    "tenant.resumed": _("Tenant resumed"),
    "tenant.plan_changed": _("Plan of the tenant changed"),
    "tenant.trial_changed": _("End of the trial changed"),
    "tenant.closing": _("Closing of the workspace begun"),
    "tenant.closing_cancelled": _("Closing of the workspace taken back"),
    "plan.requested": _("Asked the operator for more"),
    "plan.request_withdrawn": _("Request for more withdrawn"),
    "plan.request_granted": _("Request for more granted"),
    "plan.request_declined": _("Request for more declined"),
    "tenant.limits_changed": _("Limits of the tenant changed"),
    "tenant.exported": _("Tenant exported"),
    "tenant.erased": _("Tenant erased"),
    "operators.approval_asked": _("Changed whether operators need an approval"),
    "operators.requested": _("An operator asked for an approval"),
    "operators.approved": _("Approved an operator’s request"),
    "operators.denied": _("Denied an operator’s request"),
    "operators.revoked": _("Took an operator’s approval back"),
    "acting.started": _("Operator began to act for the workspace"),
    "acting.ended": _("Operator stopped acting for the workspace"),
    "plan.created": _("Plan created"),
    "plan.changed": _("Plan changed"),
    "plan.deleted": _("Plan deleted"),
    "job.retried": _("Job retried"),
    "job.cancelled": _("Job cancelled"),
    "export.downloaded": _("Export downloaded"),
    "map.created": _("Map created"),
    "map.deleted": _("Map deleted"),
    "webhook.created": _("Webhook created"),
    "webhook.updated": _("Webhook updated"),
    "webhook.deleted": _("Webhook deleted"),
    "webhook.disabled": _("Webhook disabled"),
    "webhook.tested": _("Webhook tested"),
    "webhook.replayed": _("Webhook deliveries sent again"),
    "webhook.secret_rotated": _("Secret of a webhook rotated"),
}


def label_of(table: Mapping[str, object], code: object) -> str:
    """The word for a code; a code that has none (a tenant's own label, a state of a later release) as it is."""
    name = str(code or "")
    return str(table.get(name, name))
