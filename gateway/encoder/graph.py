"""Writes MiniLM as an ONNX graph in int8: which numbers are stored, and how each token is quantised when it runs.

The usual dynamic quantisation takes one scale for a whole batch, so a text's vector depends on its neighbours, and a
few channels that are ten times larger than the others decide that scale. Here each token has its own scale and those
channels, `OUTLIERS` a matrix, are multiplied in float (LLM.int8(), arXiv 2208.07339). Weights have a scale per output
channel, chosen so that the 16-bit sums of processors without VNNI cannot overflow: every processor computes the same
integers. Knows weights as arrays, not where they come from. Used by `gateway.encoder.build` alone.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper  # type: ignore[import-not-found,unused-ignore]

from gateway.encoder.quantise import by_channel

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

LAYERS, HEADS, WIDTH, WINDOW = 6, 12, 384, 256
OUTLIERS = 8
"""Input channels of a matrix that stay in float; 4 and 16 agree with the original as well to within 0.0001."""
EPSILON = 1e-12
GELU_FLOOR = 0.17
"""GELU is never below -0.17: with this added, its values take all 8 bits as unsigned numbers."""
_PRODUCER = "com.microsoft"
_LAST = "axis.last"


def graph(weights: Mapping[str, "Floats"], magnitudes: Mapping[str, "Floats"]) -> ModelProto:
    """The model: `input_ids` int64[n, t], right-padded with 0, and `lengths` int32[n] -> `vectors` float32[n, 384].

    `weights` are BertModel's by their own names; `magnitudes` the largest absolute value of each input channel, by
    matrix (`0.qkv`, `0.up`, `0.down`, `1.qkv` ...), seen on some text.
    """
    builder = _Builder(magnitudes)
    x = _embed(builder, weights)
    for layer in range(LAYERS):
        x = _layer(builder, weights, layer, x)
    _pool(builder, x)
    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["n", "t"]),
        helper.make_tensor_value_info("lengths", TensorProto.INT32, ["n"]),
    ]
    outputs = [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["n", WIDTH])]
    body = helper.make_graph(builder.nodes, "minilm", inputs, outputs, list(builder.constants.values()))
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(_PRODUCER, 1)]
    return helper.make_model(body, opset_imports=opsets, ir_version=9, producer_name="gateway.encoder.build")


class _Builder:
    """Nodes in order, and constants by name."""

    def __init__(self, magnitudes: Mapping[str, "Floats"]) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, Any] = {}
        self._magnitudes = magnitudes

    def constant(self, name: str, value: "NDArray[Any] | np.generic") -> str:
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name)
        return name

    def op(self, kind: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: Any) -> str:
        names = self.ops(kind, *inputs, domain=domain, outputs=outputs, **attributes)
        return names[0]

    def ops(self, kind: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: Any) -> list[str]:
        number = len(self.nodes)
        names = [f"{number}.{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, f"{number}.{kind}", domain=domain, **attributes))
        return names

    def fused(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.op(kind, *inputs, domain=_PRODUCER, **attributes)

    def dense(self, name: str, x: str, weight: "Floats", bias: "Floats", *, gelu: bool = False) -> tuple[str, str]:
        """`x @ weight` and the bias still to be added; `gelu` says that `x` is GELU's output."""
        weight = weight.copy()
        aside = None
        if name in self._magnitudes:
            channels = np.sort(np.argsort(-self._magnitudes[name], kind="stable")[:OUTLIERS])
            gathered = self.op("Gather", x, self.constant(f"{name}.outliers", channels.astype(np.int64)), axis=-1)
            aside = self.op("MatMul", gathered, self.constant(f"{name}.float", weight[channels]))
            weight[channels] = 0
            keep = np.ones(len(weight), np.float32)
            keep[channels] = 0
            x = self.op("Mul", x, self.constant(f"{name}.keep", keep))
        integers, scale = by_channel(weight)
        last = self.constant(_LAST, np.array([-1], np.int64))
        if gelu:
            x = self.op("Add", x, self.constant("gelu.floor", np.float32(GELU_FLOOR)))
            largest = self.op("ReduceMax", x, last, keepdims=1)
            step, zero = self.constant("u8.step", np.float32(1 / 255)), self.constant("u8.zero", np.uint8(0))
            bias = bias - np.float32(GELU_FLOOR) * (integers * scale).sum(0)
        else:
            largest = self.op("ReduceMax", self.op("Abs", x), last, keepdims=1)
            step, zero = self.constant("i8.step", np.float32(1 / 127)), self.constant("i8.zero", np.uint8(128))
        quantised = self.op("QuantizeLinear", self.op("Div", x, largest), step, zero)
        product = self.fused(
            "MatMulIntegerToFloat",
            quantised,
            self.constant(f"{name}.int8", integers),
            step,
            self.constant(f"{name}.scale", scale),
            zero,
            self.constant(f"{name}.zero", np.zeros(len(scale), np.int8)),
        )
        product = self.op("Mul", product, largest)
        if aside is not None:
            product = self.op("Add", product, aside)
        return product, self.constant(f"{name}.bias", bias.astype(np.float32))


def _embed(builder: _Builder, weights: Mapping[str, "Floats"]) -> str:
    """Words in int8 with a scale per word, plus positions, normed."""
    words = weights["embeddings.word_embeddings.weight"]
    scale = (np.abs(words).max(1, keepdims=True) / 127).astype(np.float32)
    scale[scale == 0] = 1
    integers = np.rint(words / scale).astype(np.int8)
    rows = builder.op("Gather", builder.constant("words.int8", integers), "input_ids")
    scales = builder.op("Gather", builder.constant("words.scale", scale), "input_ids")
    x = builder.op("Mul", builder.op("Cast", rows, to=TensorProto.FLOAT), scales)
    positions = weights["embeddings.position_embeddings.weight"][:WINDOW]
    positions = positions + weights["embeddings.token_type_embeddings.weight"][0]
    start = builder.constant("zero", np.array([0], np.int64))
    length = builder.op("Shape", "input_ids", start=1, end=2)
    x = builder.op("Add", x, builder.op("Slice", builder.constant("positions", positions), start, length))
    norm = _norm(builder, weights, "embeddings.LayerNorm")
    return builder.op("LayerNormalization", x, *norm, axis=-1, epsilon=EPSILON)


def _layer(builder: _Builder, weights: Mapping[str, "Floats"], layer: int, x: str) -> str:
    own = f"encoder.layer.{layer}."

    def load(*names: str) -> tuple["Floats", "Floats"]:
        matrices = [weights[f"{own}{name}.weight"].T for name in names]
        return np.concatenate(matrices, 1), np.concatenate([weights[f"{own}{name}.bias"] for name in names])

    projected, bias = builder.dense(
        f"{layer}.qkv", x, *load("attention.self.query", "attention.self.key", "attention.self.value")
    )
    query, key, value = builder.ops("Split", builder.op("Add", projected, bias), outputs=3, axis=-1, num_outputs=3)
    attended = builder.fused("MultiHeadAttention", query, key, value, "", "lengths", num_heads=HEADS)
    attended, bias = builder.dense(f"{layer}.out", attended, *load("attention.output.dense"))
    norm = _norm(builder, weights, f"{own}attention.output.LayerNorm")
    x = builder.fused("SkipLayerNormalization", attended, x, *norm, bias, epsilon=EPSILON)
    up, bias = builder.dense(f"{layer}.up", x, *load("intermediate.dense"))
    up = builder.fused("BiasGelu", up, bias)
    down, bias = builder.dense(f"{layer}.down", up, *load("output.dense"), gelu=True)
    norm = _norm(builder, weights, f"{own}output.LayerNorm")
    return builder.fused("SkipLayerNormalization", down, x, *norm, bias, epsilon=EPSILON)


def _norm(builder: _Builder, weights: Mapping[str, "Floats"], name: str) -> tuple[str, str]:
    return (
        builder.constant(f"{name}.weight", weights[f"{name}.weight"]),
        builder.constant(f"{name}.bias", weights[f"{name}.bias"]),
    )


def _pool(builder: _Builder, x: str) -> None:
    """The mean over a text's own tokens, at unit norm (so the sum will do)."""
    one = builder.constant("one", np.array([1], np.int64))
    length = builder.op(
        "Cast", builder.op("Squeeze", builder.op("Shape", "input_ids", start=1, end=2)), to=TensorProto.INT32
    )
    first, step = builder.constant("range.first", np.int32(0)), builder.constant("range.step", np.int32(1))
    position = builder.op("Range", first, length, step)
    own = builder.op("Less", position, builder.op("Unsqueeze", "lengths", one))
    own = builder.op("Unsqueeze", builder.op("Cast", own, to=TensorProto.FLOAT), one)
    total = builder.op("Squeeze", builder.op("MatMul", own, x), one)
    builder.nodes.append(helper.make_node("LpNormalization", [total], ["vectors"], "norm", axis=-1, p=2))
