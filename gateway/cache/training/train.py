"""Fine-tunes the pair encoder on labelled pairs; seeded; a run repeats with as many CPU threads."""

import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import torch
from tokenizers import Tokenizer
from torch import Tensor

from gateway.cache.training.model import PairEncoder, load_minilm
from gateway.cache.training.pairs import TrainingPair

MOST_TOKENS = 64


class Settings(msgspec.Struct):
    """How long and how fast to train."""

    epochs: float = 2.0
    batch: int = 64
    rate: float = 2e-4
    frozen: int = 2
    save_every: int = 250
    threads: int = 1


def tokenizer_of(folder: Path) -> Tokenizer:
    """MiniLM's tokenizer, cutting at `MOST_TOKENS`, without padding."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MOST_TOKENS)
    return tokenizer


def batches(
    rng: random.Random, tokenizer: Tokenizer, pairs: Sequence[TrainingPair], size: int
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Batches of pairs of like length, in random order, each pair in a random direction."""
    order = rng.sample(range(len(pairs)), len(pairs))
    pool = size * 50
    for start in range(0, len(order), pool):
        rows = []
        for i in order[start : start + pool]:
            a, b = (pairs[i].a, pairs[i].b) if rng.random() < 0.5 else (pairs[i].b, pairs[i].a)
            rows.append((tokenizer.encode(a, b), pairs[i].same))
        rows.sort(key=lambda row: len(row[0].ids))
        chunks = [rows[j : j + size] for j in range(0, len(rows), size)]
        rng.shuffle(chunks)
        for chunk in chunks:
            yield (*collate([e for e, _ in chunk]), torch.tensor([float(s) for _, s in chunk]))


def collate(encodings: Sequence[object]) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, sides, mask, padded to the longest."""
    longest = max(len(e.ids) for e in encodings)  # type: ignore[attr-defined,unused-ignore]

    def padded(name: str) -> Tensor:
        return torch.tensor([[*getattr(e, name), *[0] * (longest - len(e.ids))] for e in encodings])  # type: ignore[attr-defined,unused-ignore]

    return padded("ids"), padded("type_ids"), padded("attention_mask")


def train(pairs: Sequence[TrainingPair], minilm: Path, out: Path, seed: int, settings: Settings) -> PairEncoder:
    """The trained encoder; a checkpoint in `out` every `save_every` steps."""
    torch.manual_seed(seed)
    torch.set_num_threads(settings.threads)
    rng = random.Random(seed)  # noqa: S311  repeatable order, no secret
    model = PairEncoder(load_minilm(minilm))
    model.freeze(settings.frozen)
    tokenizer = tokenizer_of(minilm)
    head = list(model.head.parameters())
    body = [p for p in model.layers.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(
        [{"params": body}, {"params": head, "lr": 5 * settings.rate}], lr=settings.rate, weight_decay=0.01
    )
    steps = max(1, int(settings.epochs * len(pairs) / settings.batch))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1.0, (s + 1) / (0.05 * steps)) * max(0.02, 1 - s / steps)
    )
    began, seen, losses = time.monotonic(), 0, 0.0
    step = 0
    while step < steps:
        for ids, sides, mask, same in batches(rng, tokenizer, pairs, settings.batch):
            logits = model(ids, sides, mask, torch.bfloat16)
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, same)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(body + head, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            step, seen, losses = step + 1, seen + len(same), losses + loss.item()
            if step % 25 == 0:
                rate = seen / (time.monotonic() - began)
                left = (steps - step) * settings.batch / rate / 60
                sys.stderr.write(
                    f"step {step}/{steps} loss {losses / 25:.4f} {rate:.0f} pairs/s, {left:.0f} min left\n"
                )
                sys.stderr.flush()
                losses = 0.0
            if step % settings.save_every == 0 or step == steps:
                torch.save(model.state_dict(), out / "checkpoint.pt")
            if step >= steps:
                break
    return model
