"""Addresses under /api/v1."""

from __future__ import annotations

from django.urls import path, register_converter

from api.accounts.audit_log import AuditLog
from api.accounts.operator_requests import OneOperatorRequest, OperatorRequests
from api.accounts.people import InvitationLink, Invitations, Members, OneInvitation, OneMember
from api.accounts.plan_requests import OfferedPlans, PlanRequests, WithdrawPlanRequest
from api.accounts.provisioning import (
    OneProvisioningToken,
    Provisioning,
    ProvisioningTokens,
    RotateProvisioningToken,
)
from api.accounts.roles import OneRole, Roles
from api.accounts.security import Security
from api.accounts.sign_on import Connections, Domains, OneConnection, OneDomain, VerifyDomain
from api.accounts.views import Keys, Me, OneKey, Origins, RotateKey, Usage
from api.assets.comparisons import AlikeClauses, Comparison
from api.assets.content import Content, DocumentText, PagePicture, Thumbnail, Transcript
from api.assets.data_processing import DataProcessing
from api.assets.dataset_versions import (
    CompareDatasetVersions,
    DatasetVersionAssets,
    DatasetVersions,
    OneDatasetVersion,
)
from api.assets.datasets import DatasetHealth, Datasets, Merges, OneDataset
from api.assets.erasures import Erasures, OneErasure
from api.assets.legal_holds import LegalHolds, OneLegalHold
from api.assets.uploads import OneUpload, Uploads
from api.assets.views import Assets, AssetTags, OneAsset
from api.generation.views import (
    CancelGeneration,
    GenerationDisclosure,
    GenerationPreview,
    Generations,
    OneGeneration,
    RetryGeneration,
)
from api.jobs.views import CancelJob, JobEvents, JobLog, JobPriority, Jobs, OneJob, RetryJob
from api.learning.classifiers import (
    ClassifierExamples,
    Classifiers,
    OneClassifier,
    PromoteClassifier,
    SuggestLabels,
    TrainClassifier,
)
from api.learning.finetunes import Finetunes
from api.learning.golden_queries import GoldenQueries, OneGoldenQuery
from api.learning.views import Models, OneModel, PromoteModel, RollBackModel
from api.live import Live
from api.moderation.appeals import Appeals, DecideAppeal, OneAppeal
from api.moderation.audits import AuditPicture, AuditProof, Audits, Detectors, OneAudit
from api.moderation.hash_lists import HashEntries, HashLists, MatchHashes, OneHashEntry, OneHashList
from api.moderation.policies import (
    ActivatePolicy,
    BacktestPolicy,
    CheckPolicy,
    OnePolicy,
    OneVersion,
    Policies,
    RollBackPolicy,
    ShadowOfVersion,
    StarterPolicies,
    Versions,
)
from api.moderation.public_check import Check
from api.moderation.records import ExportRecords, RecordAnchors, Records, VerifyRecords
from api.moderation.reviews import (
    BulkReviews,
    ClaimNext,
    ClaimReview,
    DecideReview,
    OneReview,
    Outcomes,
    PreviewBulk,
    ReleaseReview,
    ReviewFigures,
    Reviews,
    UndoBatch,
    UndoOutcome,
)
from api.paths import IdConverter
from api.scim import views as scim
from api.search.feedback import Feedback
from api.search.maps import MapPoints, Maps, MapSimilarity, OneMap
from api.search.saved import OneSavedSearch, SavedSearches
from api.search.standing import (
    AlertEvents,
    Alerts,
    AlertsOfQuery,
    OneAlert,
    OneStandingQuery,
    ReadAlerts,
    StandingQueries,
)
from api.search.views import Search
from api.search.weights import Gate, OneTask, Tasks, TrainGate
from api.transfer.exports import ExportContent, Exports, OneExport
from api.transfer.imports import Imports, OneImport, PreviewImport, Receipt, Rows, StartImport
from api.transfer.sources import (
    DeadLetters,
    OneDeadLetter,
    OneStreamSource,
    PauseStreamSource,
    ReplayDeadLetters,
    ResumeStreamSource,
    StreamSources,
)
from api.transfer.streams import DatasetStream
from api.webhooks.views import (
    Deliveries,
    OneDelivery,
    OneWebhook,
    ReplayDelivery,
    ReplayFailed,
    RotateWebhookSecret,
    TestWebhook,
    Webhooks,
)

register_converter(IdConverter, "id")

app_name = "api"
urlpatterns = [
    # First, as addresses are tried from the top and this is the busiest one.
    path("search", Search.as_view(), name="search"),
    path("check", Check.as_view(), name="check"),
    path("live", Live.as_view(), name="live"),
    path("me", Me.as_view(), name="me"),
    path("usage", Usage.as_view(), name="usage"),
    path("origins", Origins.as_view(), name="origins"),
    path("security", Security.as_view(), name="security"),
    path("keys", Keys.as_view(), name="keys"),
    path("keys/<id:key_id>", OneKey.as_view(), name="key"),
    path("keys/<id:key_id>/rotate", RotateKey.as_view(), name="rotate"),
    path("provisioning", Provisioning.as_view(), name="provisioning"),
    path("provisioning/tokens", ProvisioningTokens.as_view(), name="provisioning-tokens"),
    path("provisioning/tokens/<prefix>", OneProvisioningToken.as_view(), name="provisioning-token"),
    path(
        "provisioning/tokens/<prefix>/rotate",
        RotateProvisioningToken.as_view(),
        name="rotate-provisioning-token",
    ),
    path("sso/connections", Connections.as_view(), name="sso-connections"),
    path("sso/connections/<id:connection_id>", OneConnection.as_view(), name="sso-connection"),
    path("sso/domains", Domains.as_view(), name="sso-domains"),
    path("sso/domains/<id:domain_id>", OneDomain.as_view(), name="sso-domain"),
    path("sso/domains/<id:domain_id>/verify", VerifyDomain.as_view(), name="sso-domain-verify"),
    path("operator-requests", OperatorRequests.as_view(), name="operator-requests"),
    path("operator-requests/<id:request_id>", OneOperatorRequest.as_view(), name="operator-request"),
    path("members", Members.as_view(), name="members"),
    path("members/<id:member_id>", OneMember.as_view(), name="member"),
    path("invitations", Invitations.as_view(), name="invitations"),
    path("invitations/<id:invitation_id>", OneInvitation.as_view(), name="invitation"),
    path("invitations/<id:invitation_id>/link", InvitationLink.as_view(), name="invitation-link"),
    path("roles", Roles.as_view(), name="roles"),
    path("roles/<name>", OneRole.as_view(), name="role"),
    path("offered-plans", OfferedPlans.as_view(), name="offered-plans"),
    path("plan-requests", PlanRequests.as_view(), name="plan-requests"),
    path(
        "plan-requests/<id:plan_request_id>/withdraw",
        WithdrawPlanRequest.as_view(),
        name="withdraw-plan-request",
    ),
    path("datasets", Datasets.as_view(), name="datasets"),
    path("datasets/<id:dataset_id>", OneDataset.as_view(), name="dataset"),
    path("datasets/<id:dataset_id>/assets", Assets.as_view(), name="assets"),
    path("datasets/<id:dataset_id>/stream", DatasetStream.as_view(), name="dataset-stream"),
    path("datasets/<id:dataset_id>/tags", AssetTags.as_view(), name="asset-tags"),
    path("datasets/<id:dataset_id>/merges", Merges.as_view(), name="merges"),
    path("datasets/<id:dataset_id>/health", DatasetHealth.as_view(), name="dataset-health"),
    path("datasets/<id:dataset_id>/versions", DatasetVersions.as_view(), name="dataset-versions"),
    path(
        "datasets/<id:dataset_id>/versions/<id:version_id>",
        OneDatasetVersion.as_view(),
        name="dataset-version",
    ),
    path(
        "datasets/<id:dataset_id>/versions/<id:version_id>/assets",
        DatasetVersionAssets.as_view(),
        name="dataset-version-assets",
    ),
    path(
        "datasets/<id:dataset_id>/versions/<id:version_id>/compare",
        CompareDatasetVersions.as_view(),
        name="dataset-version-compare",
    ),
    path("datasets/<id:dataset_id>/imports", Imports.as_view(), name="imports"),
    path("imports/<id:import_id>", OneImport.as_view(), name="import"),
    path("imports/<id:import_id>/preview", PreviewImport.as_view(), name="import-preview"),
    path("imports/<id:import_id>/start", StartImport.as_view(), name="import-start"),
    path("imports/<id:import_id>/rows", Rows.as_view(), name="import-rows"),
    path("imports/<id:import_id>/receipt", Receipt.as_view(), name="import-receipt"),
    path("stream-sources", StreamSources.as_view(), name="stream-sources"),
    path("stream-sources/<id:source_id>", OneStreamSource.as_view(), name="stream-source"),
    path("stream-sources/<id:source_id>/pause", PauseStreamSource.as_view(), name="stream-source-pause"),
    path("stream-sources/<id:source_id>/resume", ResumeStreamSource.as_view(), name="stream-source-resume"),
    path("stream-sources/<id:source_id>/dead-letters", DeadLetters.as_view(), name="dead-letters"),
    path(
        "stream-sources/<id:source_id>/dead-letters/replay",
        ReplayDeadLetters.as_view(),
        name="dead-letters-replay",
    ),
    path(
        "stream-sources/<id:source_id>/dead-letters/<id:letter_id>",
        OneDeadLetter.as_view(),
        name="dead-letter",
    ),
    path("uploads", Uploads.as_view(), name="uploads"),
    path("uploads/<id:upload_id>", OneUpload.as_view(), name="upload"),
    path("assets/<id:asset_id>", OneAsset.as_view(), name="asset"),
    path("assets/<id:asset_id>/content", Content.as_view(), name="content"),
    path("assets/<id:asset_id>/thumbnail", Thumbnail.as_view(), name="thumbnail"),
    path("assets/<id:asset_id>/pages/<page>", PagePicture.as_view(), name="asset-page"),
    path("assets/<id:asset_id>/document", DocumentText.as_view(), name="asset-document"),
    path("assets/<id:asset_id>/transcript", Transcript.as_view(), name="transcript"),
    path("assets/<id:asset_id>/comparison/<id:later_id>", Comparison.as_view(), name="asset-comparison"),
    path("assets/<id:asset_id>/alike-clauses", AlikeClauses.as_view(), name="alike-clauses"),
    path("erasures", Erasures.as_view(), name="erasures"),
    path("erasures/<id:erasure_id>", OneErasure.as_view(), name="erasure"),
    path("data-processing", DataProcessing.as_view(), name="data-processing"),
    path("legal-holds", LegalHolds.as_view(), name="legal-holds"),
    path("legal-holds/<id:hold_id>", OneLegalHold.as_view(), name="legal-hold"),
    path("exports", Exports.as_view(), name="exports"),
    path("exports/<id:export_id>", OneExport.as_view(), name="export"),
    path("exports/<id:export_id>/content", ExportContent.as_view(), name="export-content"),
    path("saved-searches", SavedSearches.as_view(), name="saved-searches"),
    path("saved-searches/<id:saved_id>", OneSavedSearch.as_view(), name="saved-search"),
    path("standing-queries", StandingQueries.as_view(), name="standing-queries"),
    path("standing-queries/<id:standing_id>", OneStandingQuery.as_view(), name="standing-query"),
    path("standing-queries/<id:standing_id>/alerts", AlertsOfQuery.as_view(), name="standing-query-alerts"),
    path("alerts", Alerts.as_view(), name="alerts"),
    path("alerts/read", ReadAlerts.as_view(), name="alerts-read"),
    path("alerts/events", AlertEvents.as_view(), name="alert-events"),
    path("alerts/<id:alert_id>", OneAlert.as_view(), name="alert"),
    path("tasks", Tasks.as_view(), name="tasks"),
    path("tasks/<slug>", OneTask.as_view(), name="task"),
    path("feedback", Feedback.as_view(), name="feedback"),
    path("gate", Gate.as_view(), name="gate"),
    path("gate/train", TrainGate.as_view(), name="train-gate"),
    path("finetunes", Finetunes.as_view(), name="finetunes"),
    path("models", Models.as_view(), name="models"),
    path("models/<model_id>", OneModel.as_view(), name="model"),
    path("models/<model_id>/promote", PromoteModel.as_view(), name="promote-model"),
    path("models/<model_id>/rollback", RollBackModel.as_view(), name="rollback-model"),
    path("classifiers", Classifiers.as_view(), name="classifiers"),
    path("classifiers/<id:classifier_id>", OneClassifier.as_view(), name="classifier"),
    path("classifiers/<id:classifier_id>/examples", ClassifierExamples.as_view(), name="classifier-examples"),
    path("classifiers/<id:classifier_id>/train", TrainClassifier.as_view(), name="train-classifier"),
    path("classifiers/<id:classifier_id>/suggestions", SuggestLabels.as_view(), name="suggest-labels"),
    path(
        "classifiers/<id:classifier_id>/versions/<number>/promote",
        PromoteClassifier.as_view(),
        name="promote-classifier",
    ),
    path("maps", Maps.as_view(), name="maps"),
    path("maps/similarity", MapSimilarity.as_view(), name="map-similarity"),
    path("maps/<id:map_id>", OneMap.as_view(), name="map"),
    path("maps/<id:map_id>/points", MapPoints.as_view(), name="map-points"),
    path("generations", Generations.as_view(), name="generations"),
    path("generations/disclosure", GenerationDisclosure.as_view(), name="generation-disclosure"),
    path("generations/<id:generation_id>", OneGeneration.as_view(), name="generation"),
    path("generations/<id:generation_id>/preview", GenerationPreview.as_view(), name="generation-preview"),
    path("generations/<id:generation_id>/cancel", CancelGeneration.as_view(), name="generation-cancel"),
    path("generations/<id:generation_id>/retry", RetryGeneration.as_view(), name="generation-retry"),
    path("golden-queries", GoldenQueries.as_view(), name="golden-queries"),
    path("golden-queries/<id:golden_id>", OneGoldenQuery.as_view(), name="golden-query"),
    path("policies", Policies.as_view(), name="policies"),
    path("policies/check", CheckPolicy.as_view(), name="policy-check"),
    path("policies/starters", StarterPolicies.as_view(), name="policy-starters"),
    path("policies/<id:policy_id>", OnePolicy.as_view(), name="policy"),
    path("policies/<id:policy_id>/versions", Versions.as_view(), name="policy-versions"),
    path("policies/<id:policy_id>/versions/<number>", OneVersion.as_view(), name="policy-version"),
    path("policies/<id:policy_id>/versions/<number>/shadow", ShadowOfVersion.as_view(), name="policy-shadow"),
    path("policies/<id:policy_id>/backtest", BacktestPolicy.as_view(), name="policy-backtest"),
    path("policies/<id:policy_id>/activate", ActivatePolicy.as_view(), name="policy-activate"),
    path("policies/<id:policy_id>/rollback", RollBackPolicy.as_view(), name="policy-rollback"),
    path("audits", Audits.as_view(), name="audits"),
    path("audits/<id:audit_id>", OneAudit.as_view(), name="audit"),
    path("audits/<id:audit_id>/proof", AuditProof.as_view(), name="audit-proof"),
    path("audits/<id:audit_id>/pictures/<id:picture_id>", AuditPicture.as_view(), name="audit-picture"),
    path("detectors", Detectors.as_view(), name="detectors"),
    path("reviews", Reviews.as_view(), name="reviews"),
    path("reviews/claim-next", ClaimNext.as_view(), name="claim-next"),
    path("reviews/figures", ReviewFigures.as_view(), name="review-figures"),
    path("reviews/bulk", BulkReviews.as_view(), name="bulk-reviews"),
    path("reviews/bulk/preview", PreviewBulk.as_view(), name="bulk-preview"),
    path("reviews/<id:review_id>", OneReview.as_view(), name="review"),
    path("reviews/<id:review_id>/claim", ClaimReview.as_view(), name="claim-review"),
    path("reviews/<id:review_id>/release", ReleaseReview.as_view(), name="release-review"),
    path("reviews/<id:review_id>/decide", DecideReview.as_view(), name="decide-review"),
    path("outcomes", Outcomes.as_view(), name="outcomes"),
    path("outcomes/<id:outcome_id>/undo", UndoOutcome.as_view(), name="undo-outcome"),
    path("batches/<id:batch_id>/undo", UndoBatch.as_view(), name="undo-batch"),
    path("appeals", Appeals.as_view(), name="appeals"),
    path("appeals/<id:appeal_id>", OneAppeal.as_view(), name="appeal"),
    path("appeals/<id:appeal_id>/decide", DecideAppeal.as_view(), name="decide-appeal"),
    path("records", Records.as_view(), name="records"),
    path("records/verify", VerifyRecords.as_view(), name="verify-records"),
    path("records/anchors", RecordAnchors.as_view(), name="record-anchors"),
    path("records/export", ExportRecords.as_view(), name="export-records"),
    path("hash-lists", HashLists.as_view(), name="hash-lists"),
    path("hash-lists/match", MatchHashes.as_view(), name="match-hashes"),
    path("hash-lists/<id:list_id>", OneHashList.as_view(), name="hash-list"),
    path("hash-lists/<id:list_id>/entries", HashEntries.as_view(), name="hash-entries"),
    path("hash-lists/<id:list_id>/entries/<id:entry_id>", OneHashEntry.as_view(), name="hash-entry"),
    path("audit-log", AuditLog.as_view(), name="audit-log"),
    path("webhooks", Webhooks.as_view(), name="webhooks"),
    path("webhooks/<id:webhook_id>", OneWebhook.as_view(), name="webhook"),
    path("webhooks/<id:webhook_id>/test", TestWebhook.as_view(), name="webhook-test"),
    path("webhooks/<id:webhook_id>/rotate-secret", RotateWebhookSecret.as_view(), name="webhook-rotate"),
    path("webhooks/<id:webhook_id>/replay", ReplayFailed.as_view(), name="webhook-replay-failed"),
    path("webhooks/<id:webhook_id>/deliveries", Deliveries.as_view(), name="webhook-deliveries"),
    path(
        "webhooks/<id:webhook_id>/deliveries/<id:delivery_id>", OneDelivery.as_view(), name="webhook-delivery"
    ),
    path(
        "webhooks/<id:webhook_id>/deliveries/<id:delivery_id>/replay",
        ReplayDelivery.as_view(),
        name="webhook-replay",
    ),
    path("jobs", Jobs.as_view(), name="jobs"),
    path("jobs/<id:job_id>", OneJob.as_view(), name="job"),
    path("jobs/<id:job_id>/cancel", CancelJob.as_view(), name="cancel"),
    path("jobs/<id:job_id>/log", JobLog.as_view(), name="job-log"),
    path("jobs/<id:job_id>/priority", JobPriority.as_view(), name="job-priority"),
    path("jobs/<id:job_id>/retry", RetryJob.as_view(), name="retry"),
    path("jobs/<id:job_id>/events", JobEvents.as_view(), name="events"),
]

# Under /scim/v2.
scim_urlpatterns = [
    path("Users", scim.Users.as_view()),
    path("Users/<id:person_id>", scim.OneUser.as_view()),
    path("Groups", scim.Groups.as_view()),
    path("Groups/<id:group_id>", scim.OneGroup.as_view()),
    path("ServiceProviderConfig", scim.Configuration.as_view()),
    path("ResourceTypes", scim.ResourceTypes.as_view()),
    path("ResourceTypes/<str:name>", scim.ResourceTypes.as_view()),
    path("Schemas", scim.Schemas.as_view()),
    path("Schemas/<str:name>", scim.Schemas.as_view()),
    path("<path:rest>", scim.unknown_address),
]
