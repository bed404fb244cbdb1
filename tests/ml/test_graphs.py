"""Graphs written by hand: BERT without padding, and INT8 products with a scale for each row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("act", ["gelu", "gelu_new"])
def test_the_graph_without_padding_is_bert(tmp_path: Path, act: str) -> None:
    """Against transformers with every bias and scale random, on texts of very different lengths."""
    import onnxruntime
    import transformers

    from ml.compression.graph import can_write, feed, write_bert

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=50, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
        max_position_embeddings=20, hidden_act=act,
    )  # fmt: skip
    body = transformers.BertModel(config).eval()
    with torch.no_grad():
        for one in body.parameters():
            one.normal_(0, 0.4)
    assert can_write(body)
    write_bert(body, tmp_path / "bert.onnx", int8=False)
    lists = [[2, 7, 3], list(range(2, 22)), [2, 3], [2, 9, 9, 9, 4, 3]]
    session = onnxruntime.InferenceSession(tmp_path / "bert.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, feed(lists))[0]
    for row, tokens in enumerate(lists):
        with torch.no_grad():
            hidden = body(torch.tensor([tokens])).last_hidden_state[0].mean(0)
        np.testing.assert_allclose(
            found[row], torch.nn.functional.normalize(hidden, dim=0).numpy(), atol=2e-3
        )


def test_products_in_int8_do_not_see_their_neighbours(tmp_path: Path) -> None:
    import onnx
    import onnxruntime
    from onnx import TensorProto, helper

    from ml.compression.graph import Graph, quantise_rows

    rng = np.random.default_rng(0)
    weights, bias = rng.normal(size=(96, 64)).astype(np.float32), rng.normal(size=64).astype(np.float32)
    plain = Graph()
    plain.product("x", weights, bias, int8=False)
    plain.add("Identity", plain.nodes[-1].output[0], output="y")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ("n", size))
        for name, size in (("x", 96), ("y", 64))
    ]
    onnx.save(plain.model(ends[:1], ends[1]), tmp_path / "plain.onnx")
    assert quantise_rows(tmp_path / "plain.onnx", tmp_path / "int8.onnx") == 1
    session = onnxruntime.InferenceSession(tmp_path / "int8.onnx", providers=["CPUExecutionProvider"])
    rows = rng.normal(size=(6, 96)).astype(np.float32) * 10.0 ** np.arange(-3, 3)[:, None].astype(np.float32)
    rows[2] = 0
    found = session.run(None, {"x": rows})[0]
    wanted = rows @ weights + bias
    for row in range(6):
        alone = session.run(None, {"x": rows[row : row + 1]})[0][0]
        np.testing.assert_allclose(alone, found[row], rtol=1e-6, atol=1e-6)
        error = np.linalg.norm(alone - wanted[row]) / np.linalg.norm(wanted[row] - bias + 1e-9)
        assert row == 2 or error < 0.02
    assert (tmp_path / "int8.onnx").stat().st_size < 0.6 * (tmp_path / "plain.onnx").stat().st_size
