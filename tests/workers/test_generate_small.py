"""The generators that come with the product, from words to assets that an audit knows: nothing is set up for it."""

from __future__ import annotations

import io
from typing import Any

import pytest

from tenants.datasets import storage
from tenants.datasets.models import Asset
from tenants.datasets.services import create_dataset
from tenants.generation import services
from tenants.generation.models import GenerationOutput
from tenants.generation.selectors import made_by_mark
from tenants.generation.validation import GenerationSpec
from tenants.jobs.models import Job
from tenants.moderation.models import Evidence
from tenants.pipeline.assets import uploads
from tenants.pipeline.assets.services import add_asset
from tenants.pipeline.audits import audit_requests
from tenants.scope import tenant_scope
from tests.flows.pictures import jpeg
from workers.base import run_job

pytestmark = pytest.mark.slow


def generate(party: Any, **asked: Any) -> tuple[Job, dict[str, GenerationOutput]]:
    with tenant_scope(party.id):
        row, job = services.request_generation(**asked)
    run_job(str(job.id), str(party.id))
    with tenant_scope(party.id):
        outputs = GenerationOutput.objects.filter(generation=row).select_related("asset__blob", "generation")
        return Job.objects.get(pk=job.id), {one.kind: one for one in outputs}


def provenance(party: Any, asset: Asset) -> dict[str, Any]:
    """What an audit says of a file that somebody hands in, as it was released."""
    with storage.open_blob(storage.path_of(party.id, asset.blob.sha256)) as stream:
        upload = uploads.check_upload(io.BytesIO(stream.read()), "")
    with tenant_scope(party.id):
        asked = audit_requests.request_audit(upload=upload)
    run_job(str(asked.job.id), str(party.id))
    with tenant_scope(party.id):
        return Evidence.objects.get(audit_id=asked.request.id).document["provenance"]


def test_picture_clip_and_music_of_one_request_are_known_as_made_here(party, stranger) -> None:
    wanted = GenerationSpec(
        "a cat with a hat by the sea",
        outputs=("image", "audio", "video"),
        width=256,
        height=256,
        steps=8,
        seconds=6,
    )
    job, made = generate(party, wanted=wanted)
    assert job.state == "succeeded", job.error
    assert set(made) == {"image", "audio", "video"}
    assert made["audio"].how == "rules"
    mark = made["image"].generation.mark
    for kind, output in made.items():
        asset = output.asset
        assert (asset.modality, asset.labels) == (kind, ["ai-generated"])
        found = provenance(party, asset)
        assert (found["c2pa"]["own"], found["c2pa"]["state"]) == (True, "trusted"), kind
        assert found["watermark"]["state"] == "present", kind
        assert int(found["watermark"]["payload"], 16) == (mark & 0xFFFF if kind == "audio" else mark), kind
        with tenant_scope(party.id):
            assert made_by_mark(found["watermark"]) == output.generation_id
        with tenant_scope(stranger.id):
            assert made_by_mark(found["watermark"]) is None


def test_a_clip_begins_with_the_picture_that_is_remixed(party) -> None:
    with tenant_scope(party.id):
        dataset = create_dataset(name="d")
        source = add_asset(dataset_id=dataset.id, file=io.BytesIO(jpeg(3, 300)), text="a red bicycle").asset
    wanted = GenerationSpec(outputs=("video",), width=256, height=256, seconds=2)
    job, made = generate(party, wanted=wanted, remix_of=source.id)
    assert job.state == "succeeded", job.error
    assert set(made) == {"video"}
    assert made["video"].asset.prompt == "a red bicycle"


@pytest.mark.parametrize("spec", ["hf-image:/nowhere/at/all", "no-such-generator"])
def test_a_model_that_is_not_there_says_so(party, settings, spec) -> None:
    settings.GENERATORS = {**settings.GENERATORS, "image": spec}
    job, made = generate(party, wanted=GenerationSpec("a cat"))
    assert (job.state, made) == ("failed", {})
    assert job.error["type"] in ("not-installed", "no-such-model")
