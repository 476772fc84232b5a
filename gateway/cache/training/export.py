"""Writes the trained pair encoder as an int8 ONNX graph, by the blocks and the quantisation of the shipped encoder."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F  # noqa: N812
from onnx import TensorProto, helper

from gateway.cache.training.model import HEADS, WIDTH, PairEncoder
from gateway.cache.training.train import collate
from gateway.encoder import graph as blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]

PLACES = 128
"""Positions kept: a pair of more tokens is not verified."""


def export(model: PairEncoder, encodings: Sequence[object], path: Path) -> None:
    """Writes `model` to `path`; `encodings` are tokenised pairs that show which channels are large.

    Inputs: `ids` and `sides` int64[n, t], right-padded with 0, `lengths` int32[n]. Output: `logits` float32[n].
    """
    weights = _by_name(model)
    builder = blocks._Builder(magnitudes(model, encodings))  # noqa: SLF001  the encoder's own blocks, one implementation
    x = _embed(builder, weights)
    for layer in range(len(model.layers)):
        x = blocks._layer(builder, weights, layer, x)  # noqa: SLF001
    _head(builder, model, x)
    inputs = [
        helper.make_tensor_value_info("ids", TensorProto.INT64, ["n", "t"]),
        helper.make_tensor_value_info("sides", TensorProto.INT64, ["n", "t"]),
        helper.make_tensor_value_info("lengths", TensorProto.INT32, ["n"]),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n"])]
    body = helper.make_graph(builder.nodes, "pairs", inputs, outputs, list(builder.constants.values()))
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(body, opset_imports=opsets, ir_version=9, producer_name="gateway.cache.training"), path)


def magnitudes(model: PairEncoder, encodings: Sequence[object]) -> dict[str, "Floats"]:
    """The largest absolute value of each input channel of the quantised matrices, on these pairs."""
    found: dict[str, Floats] = {}

    def see(name: str, value: torch.Tensor, mask: torch.Tensor) -> None:
        largest = value[mask.bool()].abs().amax(0).numpy()
        found[name] = np.maximum(found[name], largest) if name in found else largest

    with torch.no_grad():
        for start in range(0, len(encodings), 32):
            ids, sides, mask = collate(encodings[start : start + 32])
            x = F.layer_norm(
                model.words[ids] + model.places[: ids.shape[1]] + model.sides[sides],
                (WIDTH,),
                model.norm_w,
                model.norm_b,
                1e-12,
            )
            added = ((1.0 - mask.float()) * -10_000.0)[:, None, None, :]
            for i, layer in enumerate(model.layers):
                see(f"{i}.qkv", x, mask)
                _see_inside(layer, x, added, lambda name, value, i=i, mask=mask: see(f"{i}.{name}", value, mask))
                x = layer(x, added)
    return found


def _see_inside(layer: Any, x: torch.Tensor, added: torch.Tensor, see: Any) -> None:
    qkv = F.linear(x, layer.qkv_w, layer.qkv_b)
    q, k, v = qkv.unflatten(-1, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4).unbind(0)
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=added).transpose(1, 2).flatten(2)
    middle = F.layer_norm(x + F.linear(attended, layer.out_w, layer.out_b), (WIDTH,), layer.n1_w, layer.n1_b, 1e-12)
    see("up", middle)
    see("down", F.gelu(F.linear(middle, layer.up_w, layer.up_b)))


def _by_name(model: PairEncoder) -> dict[str, "Floats"]:
    """The weights under BertModel's names."""
    named = {
        "embeddings.word_embeddings.weight": model.words,
        "embeddings.position_embeddings.weight": model.places[:PLACES],
        "embeddings.token_type_embeddings.weight": model.sides,
        "embeddings.LayerNorm.weight": model.norm_w,
        "embeddings.LayerNorm.bias": model.norm_b,
    }
    for i, layer in enumerate(model.layers):
        own = f"encoder.layer.{i}."
        for j, part in enumerate(("query", "key", "value")):
            rows = slice(j * WIDTH, (j + 1) * WIDTH)
            named[f"{own}attention.self.{part}.weight"] = layer.qkv_w[rows]  # type: ignore[index,unused-ignore]
            named[f"{own}attention.self.{part}.bias"] = layer.qkv_b[rows]  # type: ignore[index,unused-ignore]
        for own_name, name in (
            ("out", "attention.output.dense"), ("n1", "attention.output.LayerNorm"), ("up", "intermediate.dense"),
            ("down", "output.dense"), ("n2", "output.LayerNorm"),
        ):  # fmt: skip
            named[f"{own}{name}.weight"] = getattr(layer, f"{own_name}_w")
            named[f"{own}{name}.bias"] = getattr(layer, f"{own_name}_b")
    return {name: value.detach().float().numpy() for name, value in named.items()}


def _embed(builder: Any, weights: dict[str, "Floats"]) -> str:
    words = weights["embeddings.word_embeddings.weight"]
    scale = (np.abs(words).max(1, keepdims=True) / 127).astype(np.float32)
    scale[scale == 0] = 1
    rows = builder.op("Gather", builder.constant("words.int8", np.rint(words / scale).astype(np.int8)), "ids")
    scales = builder.op("Gather", builder.constant("words.scale", scale), "ids")
    x = builder.op("Mul", builder.op("Cast", rows, to=TensorProto.FLOAT), scales)
    start = builder.constant("zero", np.array([0], np.int64))
    length = builder.op("Shape", "ids", start=1, end=2)
    places = builder.constant("places", weights["embeddings.position_embeddings.weight"])
    x = builder.op("Add", x, builder.op("Slice", places, start, length))
    sides = builder.constant("sides.table", weights["embeddings.token_type_embeddings.weight"])
    x = builder.op("Add", x, builder.op("Gather", sides, "sides"))
    norm = [builder.constant(f"embeddings.{p}", weights[f"embeddings.LayerNorm.{p}"]) for p in ("weight", "bias")]
    return str(builder.op("LayerNormalization", x, *norm, axis=-1, epsilon=blocks.EPSILON))


def _head(builder: Any, model: PairEncoder, x: str) -> None:
    """Both sides' means, `[CLS]`, and two dense layers, as `PairEncoder.forward`."""
    one, zero = builder.constant("one", np.array([1], np.int64)), builder.constant("zero", np.array([0], np.int64))
    length = builder.op("Cast", builder.op("Squeeze", builder.op("Shape", "ids", start=1, end=2)), to=TensorProto.INT32)
    place = builder.op("Range", builder.constant("from", np.int32(0)), length, builder.constant("by", np.int32(1)))
    own = builder.op("Cast", builder.op("Less", place, builder.op("Unsqueeze", "lengths", one)), to=TensorProto.FLOAT)
    second = builder.op("Mul", builder.op("Cast", "sides", to=TensorProto.FLOAT), own)
    first = builder.op("Sub", own, second)

    def mean(mask: str) -> str:
        total = builder.op("Squeeze", builder.op("MatMul", builder.op("Unsqueeze", mask, one), x), one)
        return str(builder.op("Div", total, builder.op("ReduceSum", mask, one, keepdims=1)))

    a, b = mean(first), mean(second)
    start = builder.op("Squeeze", builder.op("Slice", x, zero, one, one), one)
    apart = builder.op("Abs", builder.op("Sub", a, b))
    joined = builder.op("Concat", start, apart, builder.op("Mul", a, b), builder.op("Add", a, b), axis=-1)
    up, down = model.head[0], model.head[2]
    matrix = builder.constant("head.up", up.weight.detach().numpy().T)  # type: ignore[union-attr,unused-ignore]
    hidden = builder.op("MatMul", joined, matrix)
    hidden = builder.fused("BiasGelu", hidden, builder.constant("head.up.bias", up.bias.detach().numpy()))  # type: ignore[union-attr,unused-ignore]
    out = builder.op("MatMul", hidden, builder.constant("head.down", down.weight.detach().numpy().T))  # type: ignore[union-attr,unused-ignore]
    out = builder.op("Add", out, builder.constant("head.down.bias", down.bias.detach().numpy()))  # type: ignore[union-attr,unused-ignore]
    builder.nodes.append(helper.make_node("Squeeze", [out, "one"], ["logits"], "squeeze"))
