"""What is set up for graphics cards, as far as a machine without one can tell. No test here runs on a card."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from ml import devices
from ml.auditing.examiner import DEVICE, Examiner, Subject, _Process
from ml.detectors.base import Words
from ml.devices import in_halves, is_out_of_memory
from ml.encoders import _onnx
from ml.media.process import resident_bytes
from tests.ml import misbehaving
from tests.waiting import until

# As ONNX Runtime 1.16 to 1.23 raised them on cards that were full.
ARENA = (
    "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Conv node. "
    "Name:'/patch_embed/Conv' Status Message: /onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:376 void* "
    "onnxruntime::BFCArena::AllocateRawInternal(size_t, bool, onnxruntime::Stream*, bool, "
    "onnxruntime::WaitNotificationFn) Failed to allocate memory for requested buffer of size 285081600"
)
TORCH = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 79.10 GiB"


@pytest.fixture
def variables(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in _onnx.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


# --- Providers --------------------------------------------------------------------------------------------


def test_providers_get_the_card_its_memory_and_the_folder_of_engines(
    variables: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cuda, tensorrt, cpu = (_onnx.PROVIDERS[name] for name in ("cuda", "tensorrt", "cpu"))
    assert _onnx.provider_options(cpu) == {}
    assert _onnx.provider_options(cuda) == {"device_id": "0", "arena_extend_strategy": "kSameAsRequested"}
    assert _onnx.provider_options(tensorrt) == {"device_id": "0", "trt_fp16_enable": "True"}
    engines = tmp_path / "engines"
    for name, value in (("DEVICE", "1"), ("MEMORY_BYTES", "2147483648"), ("FP16", "0")):
        variables.setenv(f"CROSSLIGHT_ONNX_{name}", value)
    variables.setenv("CROSSLIGHT_ONNX_ENGINES", str(engines))
    assert _onnx.provider_options(cuda)["gpu_mem_limit"] == "2147483648"
    assert _onnx.provider_options(cuda)["device_id"] == "1"
    told = _onnx.provider_options(tensorrt)
    assert (told["trt_fp16_enable"], told["trt_engine_cache_path"]) == ("False", str(engines))
    assert engines.is_dir()


def small_model() -> bytes:
    """Twice its input, float32 [n, 2]."""
    shape = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "twice", [shape[0]], [shape[1]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def test_a_setting_that_is_no_number_is_an_error_and_no_provider_that_fails(
    variables: pytest.MonkeyPatch,
) -> None:
    variables.setenv("CROSSLIGHT_ONNX_DEVICE", "first")
    variables.setattr(_onnx, "wanted_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(ValueError, match="CROSSLIGHT_ONNX_DEVICE is a whole number from 0 on, not 'first'"):
        _onnx.open_session(small_model())


def test_a_session_on_the_processor_is_counted_as_such(variables: pytest.MonkeyPatch) -> None:
    variables.setenv("CROSSLIGHT_ONNX_PROVIDERS", "cpu")
    before = devices.opened["cpu"]
    session = _onnx.open_session(small_model())
    assert session.run(None, {"x": np.ones((1, 2), np.float32)})[0].tolist() == [[2.0, 2.0]]
    assert devices.opened["cpu"] == before + 1


@pytest.mark.parametrize(
    ("card", "build", "named", "told"),
    [
        (False, ["CPUExecutionProvider"], "", ("cpu", "")),
        (True, ["CPUExecutionProvider"], "", ("cpu", "onnxruntime-gpu is not installed")),
        (True, ["CUDAExecutionProvider", "CPUExecutionProvider"], "", ("cuda", "")),
        (True, ["CUDAExecutionProvider", "CPUExecutionProvider"], "cpu", ("cpu", "names neither")),
    ],
)
def test_it_says_why_a_card_is_not_used(
    variables: pytest.MonkeyPatch, card: bool, build: list[str], named: str, told: tuple[str, str]
) -> None:
    variables.setattr(_onnx, "has_card", lambda: card)
    variables.setattr(onnxruntime, "get_available_providers", lambda: build)
    variables.setenv("CROSSLIGHT_ONNX_PROVIDERS", named)
    device, why = _onnx.describe()
    assert device == told[0]
    assert (told[1] in why) if told[1] else why == ""


# --- Out of memory ----------------------------------------------------------------------------------------


class Card:
    """A session whose memory takes so many rows."""

    def __init__(self, rows: int, text: str = ARENA) -> None:
        self.rows, self.text, self.sizes = rows, text, list[int]()

    def run(self, items: Sequence[int]) -> Any:
        self.sizes.append(len(items))
        if len(items) > self.rows:
            raise RuntimeError(self.text)
        return np.array(items, np.float32)[:, None] * 2, np.array(items)


@pytest.mark.parametrize("text", [ARENA, TORCH, "CUDNN_STATUS_ALLOC_FAILED", "std::bad_alloc"])
def test_a_batch_that_does_not_fit_is_halved_and_keeps_its_order(text: str) -> None:
    card, before = Card(3, text), devices.halved
    doubled, same = in_halves(card.run, list(range(13)))
    assert doubled[:, 0].tolist() == [2 * item for item in range(13)]
    assert same.tolist() == list(range(13))
    assert card.sizes == [13, 6, 3, 3, 7, 3, 4, 2, 2]
    assert devices.halved == before + 4


def test_one_item_that_does_not_fit_and_other_errors_are_told() -> None:
    with pytest.raises(RuntimeError, match="Failed to allocate"):
        in_halves(Card(0).run, [1, 2])
    card = Card(0, "Invalid Feed Input Name: pixels")
    with pytest.raises(RuntimeError, match="Invalid Feed"):
        in_halves(card.run, [1, 2])
    assert card.sizes == [2]
    assert not is_out_of_memory(ValueError("a picture is uint8"))


def test_an_encoder_goes_on_by_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    from ml.encoders.base import load_encoder

    encoder = load_encoder("bundled:efficientnet-lite0")
    pictures = [np.full((40, 40, 3), shade, np.uint8) for shade in (0, 60, 120, 180, 240)]
    whole, run, sizes = encoder.encode(pictures), encoder._session, list[int]()

    class Full:
        def run(self, names: list[str], feeds: dict[str, Any]) -> Any:
            sizes.append(len(feeds["pixels"]))
            if sizes[-1] > 2:
                raise onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException(ARENA)
            return run.run(names, feeds)

    monkeypatch.setattr(encoder, "_session", Full())
    np.testing.assert_allclose(encoder.encode(pictures), whole, atol=1e-6)
    assert sizes == [5, 2, 3, 1, 2]


# --- Examiners: a memory rule that CUDA survives ------------------------------------------------------------


@pytest.fixture
def on_a_card() -> Iterator[Examiner]:
    made = Examiner(400 << 20, module="tests.ml.misbehaving", load=misbehaving.load, device="cuda")
    yield made
    made.close()


def text(*specs: str) -> tuple[Subject, tuple[str, ...]]:
    return Subject("text", "text/plain", words=[Words("hello", "text")]), specs


def test_reserving_address_space_is_allowed_and_filling_memory_is_not(on_a_card: Examiner) -> None:
    found = {part.spec: part.finding for part in on_a_card.examine(*text("reserve", "fill", "tell")).parts}
    # 64 GiB that nobody touches, as CUDA does when it starts.
    assert found["reserve"].state == "examined"
    assert (found["fill"].state, found["fill"].reason) == (
        "failed",
        "It needs more memory than an examination may take.",
    )
    assert found["tell"].state == "examined"


def test_without_a_card_address_space_is_limited_as_before() -> None:
    with_limit = Examiner(2 << 30, module="tests.ml.misbehaving", load=misbehaving.load)
    parts = with_limit.examine(*text("reserve", "tell")).parts
    with_limit.close()
    states = {part.spec: part.finding.state for part in parts}
    assert states == {"reserve": "failed", "tell": "examined"}


def test_examiners_on_the_processor_see_no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    seen = {}
    for device in ("cpu", "cuda"):
        child = _Process(2 << 30, "tests.ml.misbehaving", [], ["tell"], device)
        try:
            # Right after it begins, a program's environment reads as empty.
            place = Path(f"/proc/{child._process.pid}/environ")
            until(lambda place=place: place.read_bytes().count(b"\0") > 1)
            environment = place.read_bytes().split(b"\0")
            assert resident_bytes(child._process.pid) > 0
            seen[device] = dict(one.decode().split("=", 1) for one in environment if one)
        finally:
            child.stop()
    assert (seen["cpu"]["CUDA_VISIBLE_DEVICES"], seen["cuda"]["CUDA_VISIBLE_DEVICES"]) == ("", "3")
    assert seen["cpu"]["CROSSLIGHT_ONNX_PROVIDERS"] == "cpu"
    assert (seen["cpu"][DEVICE], seen["cuda"][DEVICE]) == ("cpu", "cuda")
    assert resident_bytes(2**22 + 1) == 0
