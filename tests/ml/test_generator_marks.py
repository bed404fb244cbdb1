"""Marked at birth: what leaves a generator carries both marks, and nothing leaves without."""

from __future__ import annotations

import ast
import hashlib
import inspect
import io
import json
from pathlib import Path
from typing import Any

import c2pa
import numpy as np
import pytest

from ml.detectors.base import Item, VideoFrame, load_detector
from ml.generators import _marked, load_generator
from ml.generators._marked import MarkedGenerator
from ml.generators.base import (
    Cancelled,
    GenerationError,
    GenerationParams,
    Kind,
    MarkedOutput,
    Marker,
    RawOutput,
    Sound,
    Step,
)
from ml.media import Decoder
from ml.provenance import signing, sound_watermark, watermark
from tests.ml.generator_parts import KEY, PAYLOAD, Drawing, blob, flat, marker, smooth, tune

ROOT = Path(__file__).resolve().parents[2]
WISH = GenerationParams("a red apple", width=256, height=256, seconds=2.0)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Marker:
    return marker(tmp_path_factory.mktemp("keys"))


def still(pixels: Any) -> Drawing:
    return Drawing("image", lambda params: RawOutput(pixels=pixels))


def film(pixels: Any, sound: Sound | None = None) -> Drawing:
    frames = np.stack([np.roll(pixels, at, axis=1) for at in range(24)])
    return Drawing("video", lambda params: RawOutput(frames=frames, fps=12, sound=sound))


def recording(sound: Sound) -> Drawing:
    return Drawing("audio", lambda params: RawOutput(sound=sound))


DRAWINGS: dict[str, Drawing] = {
    **{f"flat {level}": still(flat(level)) for level in (0, 1, 128, 254, 255)},
    "noise": still(np.random.default_rng(0).integers(0, 256, (256, 300, 3)).astype(np.uint8)),
    "stripes": still(np.repeat(np.arange(300)[None, :, None] // 4 % 2 * 255, 256, 0).repeat(3, 2).astype(np.uint8)),
    "blob": still(blob(400)),
    "film of a blob": film(blob()),
    "film of white": film(flat(255)),
    "film of soft colours, with a tune": film(smooth(), tune(2.0)),
    "film with a sound too short to mark": film(blob(), tune(0.5)),
    "tune": recording(tune()),
    "silence": recording(Sound(np.zeros((88_200, 2), np.float32), 44_100)),
    "full scale": recording(Sound(np.sign(tune().samples + 1e-9).astype(np.float32), 44_100)),
    "16 kHz": recording(tune(3.0, 16_000)),
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWINGS)
@pytest.mark.slow
def test_what_is_released_is_found_by_the_audits_detectors(name: str, keys: Marker, tmp_path: Path) -> None:
    drawing = DRAWINGS[name]
    [made] = MarkedGenerator(drawing, keys).make([WISH])
    assert found(made, keys, tmp_path) == (
        True,
        "trainedAlgorithmicMedia",
        f"{PAYLOAD:08x}"[-_digits(made) :],
    )
    assert made.marks["c2pa"]["state"] == "trusted" and made.how == "model"


def _digits(made: MarkedOutput) -> int:
    return 4 if made.kind == "audio" else 8


def found(made: MarkedOutput, keys: Marker, folder: Path) -> tuple[bool, str, str]:
    """What the detectors say about the file, decoded as an audit does it: own, source type, payload."""
    path = folder / "made"
    path.write_bytes(made.content)
    options = {"own_anchors": keys.keys.root, "watermark_key": KEY.hex()}
    item = Item(made.kind, made.media_type, path=path, options=options)
    signed = load_detector("c2pa").examine(item).fields["c2pa"]
    with Decoder() as decoder:
        if made.kind == "image":
            item.pixels = decoder.image(path).pixels
        elif made.kind == "video":
            item.shots = [VideoFrame(frame.at_s, frame.pixels) for frame in decoder.frames(path)]
    if made.kind == "audio":
        samples = _marked.read_wav(made.content)
        mark = sound_watermark.detect(samples.samples, samples.rate, KEY)
        return signed["own"], signed["source_types"][0], f"{mark.payload:04x}" if mark else ""
    seen = load_detector("watermark").examine(item).fields["watermark"]
    return signed["own"], signed["source_types"][0], seen.get("payload", "")


def test_a_manifest_tells_the_model_the_seed_and_a_digest_of_the_prompt_never_the_prompt(
    keys: Marker,
) -> None:
    [made] = MarkedGenerator(still(blob()), keys).make(
        [GenerationParams("a secret birthday party", seed=77, width=256, height=256)]
    )
    assert b"secret" not in made.content and b"birthday" not in made.content
    with c2pa.Reader("image/png", io.BytesIO(made.content), None) as reader:
        manifests = json.loads(reader.json())["manifests"]
    [action] = next(iter(manifests.values()))["assertions"][0]["data"]["actions"]
    assert action["softwareAgent"]["name"] == "Test drawing 1"
    assert action["when"].startswith("20") and action["when"].endswith("Z")
    assert action["parameters"] == {
        "prompt_sha256": hashlib.sha256(b"a secret birthday party").hexdigest(), "seed": 77, "how": "model",
    }  # fmt: skip


@pytest.mark.parametrize(("how", "code"), [("rules", "algorithmicMedia"), ("layout", "compositeSynthetic")])
def test_rules_and_layouts_do_not_claim_to_be_a_models(how: Any, code: str, keys: Marker) -> None:
    drawing = Drawing("image", lambda params: RawOutput(pixels=blob(), how=how))
    [made] = MarkedGenerator(drawing, keys).make([WISH])
    assert (made.how, made.marks["c2pa"]["source_type"]) == (how, code)


# --- Nothing unmarked ---


def unchanged(content: Any, *args: Any, **options: Any) -> Any:
    return content


def unsigned(keys: Any, content: bytes, *args: Any, **options: Any) -> bytes:
    return content


@pytest.mark.parametrize("drawing", [still(blob()), film(blob()), recording(tune())], ids=lambda d: d.kind)
@pytest.mark.parametrize("broken", ["sign", "embed", "key", "signer"])
@pytest.mark.slow
def test_nothing_is_released_with_a_tampered_marker(
    drawing: Drawing, broken: str, keys: Marker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    born = MarkedGenerator(drawing, keys)
    if broken == "sign":
        monkeypatch.setattr(signing, "sign", unsigned)
    elif broken == "embed":
        monkeypatch.setattr(watermark, "embed", unchanged)
        monkeypatch.setattr(sound_watermark, "embed", unchanged)
    elif broken == "key":
        # Marks that are there, but say something else.
        real, real_sound = watermark.embed, sound_watermark.embed
        monkeypatch.setattr(watermark, "embed", lambda p, payload, key, **o: real(p, payload ^ 1, key, **o))
        monkeypatch.setattr(
            sound_watermark, "embed", lambda s, r, payload, key: real_sound(s, r, payload ^ 1, key)
        )
    else:
        # A manifest that is intact, but of somebody else.
        real_sign, others = signing.sign, signing.load_keys(tmp_path / "others")
        monkeypatch.setattr(signing, "sign", lambda k, *a, **o: real_sign(others, *a, **o))
    with pytest.raises(GenerationError) as caught:
        born.make([WISH])
    assert caught.value.code == "not-marked"


def test_one_that_cannot_be_marked_keeps_back_the_whole_batch(keys: Marker) -> None:
    short = Sound(np.zeros((100, 2), np.float32), 44_100)
    drawing = Drawing("audio", lambda params: RawOutput(sound=short if params.seed else tune()))
    with pytest.raises(GenerationError, match="could not be read back"):
        MarkedGenerator(drawing, keys).make([WISH, GenerationParams("b", seed=1)])


def test_no_option_leads_around_the_marks() -> None:
    assert list(inspect.signature(load_generator).parameters) == ["spec", "marker"]
    assert list(inspect.signature(MarkedGenerator.make).parameters) == ["self", "wanted", "watch"]
    assert [name for name in vars(MarkedGenerator) if not name.startswith("_")] == [
        "model",
        "missing",
        "make",
    ]


MEASURED = ("_marked", "small_picture", "hf_image")


def test_nobody_outside_reaches_a_generator_itself() -> None:
    # What understands a prompt makes nothing of it.
    allowed = {"ml.generators.base", "ml.generators.load_generator", "ml.generators.studio"}
    allowed |= {"ml.generators.understands"}
    reached = {
        (str(path.relative_to(ROOT)), name)
        for top in ("ml", "tenants", "workers", "platform", "benchmarks")
        for path in (ROOT / top).rglob("*.py")
        if (ROOT / "ml" / "generators") not in path.parents and "node_modules" not in path.parts
        for name in _imported(path)
        if name.startswith("ml.generators")
        and name not in allowed
        # Benchmarks put drawings of their own into the wrapper, to measure the marks, judge what nobody gets, and
        # time what loading a checkpoint takes.
        and (top, name) not in {("benchmarks", f"ml.generators.{one}") for one in MEASURED}
    }
    assert reached == set()


def _imported(path: Path) -> set[str]:
    """Modules of ``ml.generators`` that a file imports, and texts in it that could name one."""
    content = path.read_text("utf-8")
    if "ml.generators" not in content:
        return set()
    found: set[str] = set()
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names if node.module == "ml.generators" else {node.module}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value == "ml.generators":
            found.add(node.value)
    return found


# --- On the way ---


def test_previews_are_small_and_marked_and_steps_count_over_all_batches(keys: Marker) -> None:
    drawing = still(blob())
    drawing.limits = _marked.Limits(max_batch=2)
    steps: list[Step] = []
    MarkedGenerator(drawing, keys).make([WISH] * 3, steps.append)
    counted = [(step.done, step.total) for step in steps]
    assert counted == sorted(counted) and counted[-1] == (8, 8) and drawing.calls == 2
    shown = [step.preview for step in steps if step.preview is not None]
    assert shown and max(shown[0].shape) <= 192
    assert watermark.detect(shown[0], KEY).payload == PAYLOAD


def test_cancelling_while_it_draws_or_marks_stops_it(keys: Marker) -> None:
    for after in range(5):
        calls = 0

        def watch(step: Step, after: int = after) -> None:
            nonlocal calls
            calls += 1
            if calls > after:
                raise Cancelled

        with pytest.raises(Cancelled):
            MarkedGenerator(still(blob()), keys).make([WISH], watch)


def test_what_whoever_watches_raises_is_no_fault_of_the_generator(keys: Marker) -> None:
    def watch(step: Step) -> None:
        raise ConnectionError("the database is away")

    for after in range(2):
        calls = []

        def later(step: Step, after: int = after, calls: list[Step] = calls) -> None:
            calls.append(step)
            if len(calls) > after:
                watch(step)

        with pytest.raises(ConnectionError):
            MarkedGenerator(still(blob()), keys).make([WISH], later)


def test_failures_have_codes_and_tell_no_secrets(keys: Marker) -> None:
    def fails(error: BaseException) -> GenerationError:
        def draw(params: GenerationParams) -> RawOutput:
            raise error

        with pytest.raises(GenerationError) as caught:
            MarkedGenerator(Drawing("image", draw), keys).make([WISH])
        return caught.value

    assert fails(MemoryError()).code == "out-of-memory"
    failed = fails(RuntimeError("/srv/secret.safetensors is damaged"))
    assert failed.code == "failed" and "secret" not in failed.message
    assert fails(GenerationError("too-large", "no")).code == "too-large"


def test_lack_of_memory_is_told_as_torch_tells_it(keys: Marker) -> None:
    torch = pytest.importorskip("torch")

    def draw(params: GenerationParams) -> RawOutput:
        return RawOutput(pixels=torch.empty(1 << 50, dtype=torch.uint8).numpy())

    with pytest.raises(GenerationError) as caught:
        MarkedGenerator(Drawing("image", draw), keys).make([WISH])
    assert caught.value.code == "out-of-memory"


@pytest.mark.parametrize("kind", ["image", "video", "audio"])
def test_a_generator_that_makes_nothing_of_its_kind_fails(kind: Kind, keys: Marker) -> None:
    with pytest.raises(GenerationError) as caught:
        MarkedGenerator(Drawing(kind, lambda params: RawOutput()), keys).make([WISH])
    assert caught.value.code == "failed"


@pytest.mark.parametrize("spec", ["", "studio", "base", "_birth", "../x", "no-such", "hf-image:/no/where"])
@pytest.mark.slow
def test_a_generator_that_is_not_there_is_told_plainly(spec: str, keys: Marker) -> None:
    with pytest.raises(GenerationError) as caught:
        load_generator(spec, keys).make([WISH])
    assert caught.value.code == "no-such-model"
