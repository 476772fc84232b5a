"""The pair encoder in PyTorch: MiniLM reading both questions at once, with a head over what it made of each.

Imported only by the training command: PyTorch is not a dependency of the gateway.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

HEADS = 12
WIDTH = 384


class Layer(nn.Module):  # type: ignore[misc,unused-ignore]  # PyTorch is an extra
    """One transformer layer of BERT, computing in the type of its input."""

    def __init__(self, weights: dict[str, Tensor], prefix: str) -> None:
        super().__init__()

        def take(name: str) -> nn.Parameter:
            return nn.Parameter(weights[prefix + name].float())

        parts = ("query", "key", "value")
        self.qkv_w = nn.Parameter(torch.cat([weights[f"{prefix}attention.self.{p}.weight"].float() for p in parts]))
        self.qkv_b = nn.Parameter(torch.cat([weights[f"{prefix}attention.self.{p}.bias"].float() for p in parts]))
        self.out_w, self.out_b = take("attention.output.dense.weight"), take("attention.output.dense.bias")
        self.n1_w, self.n1_b = take("attention.output.LayerNorm.weight"), take("attention.output.LayerNorm.bias")
        self.up_w, self.up_b = take("intermediate.dense.weight"), take("intermediate.dense.bias")
        self.down_w, self.down_b = take("output.dense.weight"), take("output.dense.bias")
        self.n2_w, self.n2_b = take("output.LayerNorm.weight"), take("output.LayerNorm.bias")

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """`[batch, tokens, 384]` to the same; `mask` is added to the attention scores."""
        kind = x.dtype
        qkv = F.linear(x, self.qkv_w.to(kind), self.qkv_b.to(kind))
        q, k, v = qkv.unflatten(-1, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4).unbind(0)
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        attended = F.linear(attended.transpose(1, 2).flatten(2), self.out_w.to(kind), self.out_b.to(kind))
        x = F.layer_norm(x + attended, (WIDTH,), self.n1_w.to(kind), self.n1_b.to(kind), 1e-12)
        hidden = F.linear(
            F.gelu(F.linear(x, self.up_w.to(kind), self.up_b.to(kind))), self.down_w.to(kind), self.down_b.to(kind)
        )
        return F.layer_norm(x + hidden, (WIDTH,), self.n2_w.to(kind), self.n2_b.to(kind), 1e-12)


class PairEncoder(nn.Module):  # type: ignore[misc,unused-ignore]
    """`[CLS] a [SEP] b [SEP]` to one logit: may one answer serve both."""

    def __init__(self, weights: dict[str, Tensor], layers: int = 6) -> None:
        super().__init__()
        self.words = nn.Parameter(weights["embeddings.word_embeddings.weight"].float(), requires_grad=False)
        self.places = nn.Parameter(weights["embeddings.position_embeddings.weight"].float(), requires_grad=False)
        self.sides = nn.Parameter(weights["embeddings.token_type_embeddings.weight"].float(), requires_grad=False)
        self.norm_w = nn.Parameter(weights["embeddings.LayerNorm.weight"].float(), requires_grad=False)
        self.norm_b = nn.Parameter(weights["embeddings.LayerNorm.bias"].float(), requires_grad=False)
        self.layers = nn.ModuleList([Layer(weights, f"encoder.layer.{i}.") for i in range(layers)])
        self.head = nn.Sequential(nn.Linear(4 * WIDTH, 128), nn.GELU(), nn.Linear(128, 1))

    def freeze(self, lowest: int) -> None:
        """The embeddings and the `lowest` layers keep MiniLM's weights."""
        for layer in list(self.layers)[:lowest]:
            layer.requires_grad_(False)

    def forward(self, ids: Tensor, sides: Tensor, mask: Tensor, kind: Any = torch.float32) -> Tensor:
        """`int64[batch, tokens]` three times (mask 1 = token) to `float32[batch]`."""
        x = self.words[ids] + self.places[: ids.shape[1]] + self.sides[sides]
        x = F.layer_norm(x, (WIDTH,), self.norm_w, self.norm_b, 1e-12).to(kind)
        added = ((1.0 - mask.float()) * -10_000.0)[:, None, None, :].to(kind)
        for layer in self.layers:
            x = layer(x, added)
        x = x.float()
        b = (sides * mask).float()
        a = mask.float() - b
        mean_a = (x * a[:, :, None]).sum(1) / a.sum(1, keepdim=True)
        mean_b = (x * b[:, :, None]).sum(1) / b.sum(1, keepdim=True)
        joined = torch.cat([x[:, 0], (mean_a - mean_b).abs(), mean_a * mean_b, mean_a + mean_b], -1)
        logit: Tensor = self.head(joined)[:, 0]
        return logit


def load_minilm(folder: Path) -> dict[str, Tensor]:
    """MiniLM's weights from a sentence-transformers folder (`model.safetensors`)."""
    from safetensors.torch import load_file  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415 - an extra

    weights = load_file(folder / "model.safetensors")
    return {name.removeprefix("bert."): value for name, value in weights.items()}
