"""The same training in plain PyTorch, to compare its speed and F1 with `quarry train`.

    pip install torch==2.11.0 tokenizers safetensors numpy pyarrow
    python benches/train.py jobs/train-early-1-sentences.toml              # trains, scores dev and test
    python benches/train.py jobs/train-early-1-sentences.toml --steps 60   # measures speed only

It reads a training job and follows its recipe; it refuses unsupported settings. It writes no model.

- The network is bert.py's, with PyTorch's own optimizers, schedulers, dropout and autocast.
- Texts, questions, batches (sorted by length in blocks of a hundred, shuffled) and losses are those of `quarry train`. The order of batches
  and the initial heads differ, because the random numbers are Python's and PyTorch's: compare several seeds. Windows of texts longer than
  `max_length` end after a fixed number of tokens, not at the end of a sentence, and the mentions of all windows count.
- Dev is scored as often as the job says; the weights with the best dev score are scored on test. A gold mention counts even if no window
  contains it. If the schema is not nested, the better of two overlapping mentions is kept.
- The rates cover the steps, including making their tensors and excluding evaluation: real tokens, and tokens with padding.
"""

import argparse
import random
import sys
import time
import tomllib
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from typing import NamedTuple

import bert
import numpy as np
import pyarrow.parquet as pq
import torch
from queries import Query, Questions, by_budget, by_length, padded
from torch.nn import functional as F

# The supported keys and their defaults.
DATA = {"train": None, "dev": None, "test": None, "id": "doc_id", "text": "text", "misaligned": "skip", "unknown_types": "stop"}
RECIPE = {
    "max_length": 128, "overlap_tokens": None, "words": "tokenizer", "batch_size": 32, "batch_tokens": None,
    "accumulate_grad_batches": 1, "lr": 2e-5, "optimizer": "adamw", "weight_decay": 0.01, "adam_epsilon": 1e-8,
    "lr_scheduler": "onecycle", "warmup_steps": 0, "final_div_factor": 1e4, "lr_mini": None, "bert_dropout": 0.1, "mrc_dropout": 0.1,
    "classifier_act_func": "gelu", "classifier_intermediate_hidden_size": 1024, "weight_start": 1.0, "weight_end": 1.0,
    "weight_span": 1.0, "span_loss_candidates": "pred_and_gold", "gradient_clip_val": 0.0, "precision": "fp32", "max_epochs": 20,
    "val_check_interval": 1.0, "seed": 0, "device": "auto", "threads": None, "not_a_number": "stop",
}  # fmt: skip
# The supported values of keys that are supported only in part.
VALUES = {
    "words": ["tokenizer"], "optimizer": ["adamw", "torch.adam", "sgd"], "lr_scheduler": ["onecycle", "linear", "polydecay"],
    "classifier_act_func": ["gelu"], "span_loss_candidates": ["all", "gold", "pred_and_gold", "pred_gold_random"],
    "precision": ["fp32", "bf16"], "not_a_number": ["stop"], "misaligned": ["skip", "stop"], "unknown_types": ["skip", "stop"],
    "heads": ["new", "keep"],
}  # fmt: skip
BLOCK_BATCHES = 100  # batches that are sorted together by length
SCORED = 8192  # padded tokens per batch in evaluation


class Example(NamedTuple):
    """A query with the first and last tokens of its answers."""

    query: Query
    answers: list
    document: int


def length(example):
    return len(example.query.ids)


class Split(NamedTuple):
    """The examples of a split, with the gold mentions of its documents."""

    examples: list
    offsets: list  # per document and token: its character range
    gold: list  # per document: type, first character, last character plus 1


def settings(section, given, supported):
    """A section of the job with defaults filled in; exits if a key or value is not supported."""
    for key, value in given.items():
        if key not in supported:
            sys.exit(f"{section}.{key} is not supported")
        if value not in VALUES.get(key, [value]):
            sys.exit(f'{section}.{key} = "{value}" is not supported, only {", ".join(VALUES[key])}')
    return supported | given


def read_job(path, encoder):
    with open(path, "rb") as file:
        job = tomllib.load(file)
    data, recipe = settings("data", job["data"], DATA), settings("recipe", job.get("recipe", {}), RECIPE)
    start = settings("encoder", job["encoder"], {"path": None, "heads": "new"})
    if encoder:
        start["path"] = encoder
    if start["path"].startswith("hf://"):
        sys.exit(f"{start['path']} is not fetched: name a folder that has it with --encoder")
    if "," in recipe["device"]:
        sys.exit(f"recipe.device = \"{recipe['device']}\": one device is supported")
    return data, job["entities"]["schema"], start, recipe


def read_split(folder, data, questions):
    """Labelled documents as queries with answers."""
    documents = pq.read_table(Path(folder) / "documents.parquet", columns=[data["id"], data["text"]]).to_pylist()
    names = [one["name"] for one in questions.schema["type"]]
    gold, unknown = defaultdict(set), defaultdict(int)
    for row in pq.read_table(Path(folder) / "gold.parquet").to_pylist():
        if row["entity_type"] in names:
            place = names.index(row["entity_type"]), row["start_char"], row["end_char"]
            gold[str(row["doc_id"])].add(place)
        else:
            unknown[row["entity_type"]] += 1
    if unknown and data["unknown_types"] == "stop":
        sys.exit(f"{folder}: the schema has no question for {', '.join(sorted(unknown))}")
    split, lost = Split([], [], []), 0
    for number, document in enumerate(sorted(documents, key=lambda document: str(document[data["id"]]))):
        encoding, wanted = questions.encode(document[data["text"]]), gold[str(document[data["id"]])]
        queries = list(questions.ask(encoding))
        firsts, lasts = {one[0]: at for at, one in enumerate(encoding.offsets)}, {one[1]: at for at, one in enumerate(encoding.offsets)}
        held = set()
        for query in queries:
            answers = []
            for place in wanted:
                kind, start, end = place
                if kind != query.entity_type or start not in firsts or end not in lasts:
                    continue
                first, last = (at + query.context - query.offset for at in (firsts[start], lasts[end]))
                if query.context <= first <= last < len(query.ids) - 1 and query.starts[first] and query.ends[last]:
                    answers.append((first, last))
                    held.add(place)
            split.examples.append(Example(query, answers, number))
        split.offsets.append(encoding.offsets)
        split.gold.append(wanted)
        lost += len(wanted - held)
    if lost:
        text = f"{folder}: {lost} gold mentions do not cover whole words, or no window contains them"
        if data["misaligned"] == "stop":
            sys.exit(text)
        print(f"{text}; they are skipped", flush=True)
    return split


def steps_of(split, recipe, draw):
    """The steps of an epoch, each a list of batches of examples."""
    order = draw.sample(split.examples, len(split.examples))
    mean = sum(map(length, order)) / len(order)
    tokens, size = recipe["batch_tokens"], recipe["batch_size"]
    usual = max(1, int(tokens / mean)) if tokens else size
    batches = []
    for at in range(0, len(order), usual * BLOCK_BATCHES):
        block = by_length(order[at : at + usual * BLOCK_BATCHES], length)
        batches += by_budget(block, tokens, length) if tokens else [block[at : at + size] for at in range(0, len(block), size)]
    draw.shuffle(batches)
    together = recipe["accumulate_grad_batches"]
    return [batches[at : at + together] for at in range(0, len(batches), together)]


def scorings(steps, interval):
    """The steps of an epoch after which dev is scored; always includes the last."""
    every = interval if interval > 1 else max(1, interval * steps)
    after = {round(count * every) for count in range(1, int(steps / every) + 1)}
    return {step for step in after if 0 < step < steps} | {steps}


def tensors(batch, device):
    """ids, types, mask, starts, ends of a batch of examples, on the device."""
    parts = padded([example.query for example in batch])
    ids, attention, types, starts, ends = (torch.from_numpy(part).to(device) for part in parts)
    return ids, types, attention.bool()[:, None, None, :], starts, ends


def targets(batch, shape):
    """Starts and ends of the answers, float [rows, tokens], and their pairs, bool [rows, tokens, tokens]."""
    starts, ends, spans = np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.zeros((*shape, shape[1]), bool)
    for row, example in enumerate(batch):
        for start, end in example.answers:
            starts[row, start], ends[row, end], spans[row, start, end] = 1, 1, True
    return starts, ends, spans


def candidates(kind, predicted, gold, allowed):
    """Row, start and end of the pairs in the match loss, int64 [k, 3]."""
    wanted = bert.pairs(*allowed)
    if kind == "gold":
        wanted &= bert.pairs(*gold)
    elif kind != "all":
        chosen = bert.pairs(*predicted) | bert.pairs(*gold)
        if kind == "pred_gold_random":
            chosen |= torch.rand(wanted.shape, device=wanted.device) < 0.5
        wanted &= chosen
    return torch.nonzero(wanted)


def loss_of(model, batch, recipe, device, autocast):
    """The weighted loss of a batch, and its numbers of real and of padded tokens."""
    ids, types, mask, may_start, may_end = tensors(batch, device)
    starts, ends, spans = (torch.from_numpy(part).to(device) for part in targets(batch, ids.shape))
    with autocast():
        hidden = model.encode(ids, types, mask)
        start, end = model.boundaries(hidden)
        gold, predicted = (starts > 0, ends > 0), (start > 0, end > 0)
        index = candidates(recipe["span_loss_candidates"], predicted, gold, (may_start, may_end))
        span = model.match(hidden, index)

    def mean(logits, wanted, allowed):
        each = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        return (each * allowed).sum() / allowed.sum().clamp(min=1)

    match = F.binary_cross_entropy_with_logits(span, spans[index.unbind(1)].float()) if len(index) else torch.zeros((), device=device)
    weights = [recipe[f"weight_{part}"] for part in ("start", "end", "span")]
    losses = mean(start, starts, may_start), mean(end, ends, may_end), match
    return sum(weight * one for weight, one in zip(weights, losses)) / sum(weights), sum(map(length, batch)), ids.numel()


def optimizer_of(model, recipe, steps):
    """The optimizer and its learning-rate schedule."""
    resting = [value for name, value in model.named_parameters() if "LayerNorm" in name or name.endswith("bias")]
    at_rest = {id(value) for value in resting}
    decaying = [value for value in model.parameters() if id(value) not in at_rest]
    groups = [{"params": decaying, "weight_decay": recipe["weight_decay"]}, {"params": resting, "weight_decay": 0.0}]
    rate = recipe["lr"]
    if recipe["optimizer"] == "sgd":
        optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9)
    else:
        betas = 0.9, 0.98 if recipe["optimizer"] == "adamw" else 0.999
        optimizer = torch.optim.AdamW(groups, lr=rate, betas=betas, eps=recipe["adam_epsilon"])
    warmup = recipe["warmup_steps"]
    if warmup > steps:
        sys.exit(f"recipe.warmup_steps = {warmup} is more than the number of steps ({steps})")
    if recipe["lr_scheduler"] == "onecycle":
        course = {"pct_start": warmup / steps, "anneal_strategy": "linear", "final_div_factor": recipe["final_div_factor"]}
        return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, **course)
    least = (recipe["lr_mini"] or rate / 5) / rate if recipe["lr_scheduler"] == "polydecay" else 0.0

    def share(step):
        if step < warmup:
            return step / warmup
        return 1 - (1 - least) * min(1, (step - warmup) / max(1, steps - warmup))

    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, share)


def without_overlaps(found):
    """Resolves overlaps: keeps the higher logit, then the longer span, then the earlier."""
    kept = []
    for place, logit in sorted(found.items(), key=lambda one: (-one[1], one[0][1] - one[0][2], one[0][1:], one[0][0])):
        if all(place[2] <= other[1] or other[2] <= place[1] for other in kept):
            kept.append(place)
    return set(kept)


def score(model, split, nested, device, autocast):
    """True positives, predicted and gold mentions over all types."""
    found = [{} for _ in split.gold]
    model.eval()
    with torch.inference_mode(), autocast():
        for batch in by_budget(by_length(split.examples, length), SCORED, length):
            ids, types, mask, starts, ends = tensors(batch, device)
            hidden = model.encode(ids, types, mask)
            start, end = model.boundaries(hidden)
            index = torch.nonzero(bert.pairs((start > 0) & starts, (end > 0) & ends))
            logits, before = model.match(hidden, index).tolist(), None
            # Sorted by row, start and end. If mentions must not be nested, a start takes the nearest end that passes.
            for (row, first, last), logit in zip(index.tolist(), logits):
                if logit <= 0 or not nested and (row, first) == before:
                    continue
                before, (query, _, document) = (row, first), batch[row]
                offsets, shift = split.offsets[document], query.offset - query.context
                place = query.entity_type, offsets[first + shift][0], offsets[last + shift][1]
                found[document][place] = max(logit, found[document].get(place, logit))
    model.train()
    predicted = [set(places) if nested else without_overlaps(places) for places in found]
    right = sum(len(places & gold) for places, gold in zip(predicted, split.gold))
    return right, sum(map(len, predicted)), sum(map(len, split.gold))


def f1(right, predicted, gold):
    return 2 * right / max(1, predicted + gold)


def scores(name, counts):
    right, predicted, gold = counts
    return f"{name}: F1 {f1(*counts):.4f}, precision {right / max(1, predicted):.4f}, recall {right / max(1, gold):.4f}"


class Rate:
    """Tokens per second over the steps."""

    def __init__(self):
        self.real = self.slots = self.seconds = 0

    def __str__(self):
        real, slots = self.real / self.seconds, self.slots / self.seconds
        return f"{real:,.0f} real tokens/s, {slots:,.0f} with padding ({1 - real / slots:.1%})"


def network(start, recipe, device):
    """The network with its pretrained weights."""
    config, weights = bert.read(start["path"])
    if start["heads"] == "new":
        config["classifier_intermediate_hidden_size"] = recipe["classifier_intermediate_hidden_size"]
        weights = {name: value for name, value in weights.items() if name.startswith("bert.")}
    if recipe["max_length"] > config["max_position_embeddings"]:
        sys.exit(f"recipe.max_length is {recipe['max_length']}, but the encoder has {config['max_position_embeddings']} positions")
    model = bert.BertMrc(config, recipe["bert_dropout"], recipe["mrc_dropout"])
    for name, value in model.named_parameters():
        if not name.startswith("bert."):
            torch.nn.init.zeros_(value) if name.endswith("bias") else torch.nn.init.normal_(value, 0.0, 0.02)
    odd = model.load_state_dict(weights, strict=False)
    missing = [name for name in odd.missing_keys if start["heads"] == "keep" or name.startswith("bert.")]
    if missing or odd.unexpected_keys:
        sys.exit(f"{start['path']}: missing {missing[:3]}, unknown {odd.unexpected_keys[:3]}")
    return model.to(device)


def train(model, splits, nested, recipe, device, most):
    """Trains and scores; stops after `most` steps, if given, without a score."""
    autocast = (lambda: torch.autocast(device.type, torch.bfloat16)) if recipe["precision"] == "bf16" else nullcontext
    draw = random.Random(recipe["seed"])
    epochs = [steps_of(splits["train"], recipe, draw) for _ in range(recipe["max_epochs"])]
    optimizer, schedule = optimizer_of(model, recipe, sum(map(len, epochs)))
    rate, step, best, started = Rate(), 0, (-1.0, None), time.perf_counter()
    print(f"{len(splits['train'].examples):,} queries, {sum(map(len, epochs)):,} steps", flush=True)
    model.train()
    for number, steps in enumerate(epochs):
        due = scorings(len(steps), recipe["val_check_interval"])
        for at, batches in enumerate(steps, 1):
            began, total = time.perf_counter(), 0.0
            for batch in batches:
                loss, real, slots = loss_of(model, batch, recipe, device, autocast)
                (loss / len(batches)).backward()
                total += loss.item() / len(batches)
                rate.real, rate.slots = rate.real + real, rate.slots + slots
            if not np.isfinite(total):
                sys.exit(f"the loss of step {step + 1} is {total}")
            if recipe["gradient_clip_val"]:
                torch.nn.utils.clip_grad_norm_(model.parameters(), recipe["gradient_clip_val"])
            optimizer.step()
            optimizer.zero_grad()
            step += 1
            if step < sum(map(len, epochs)):
                schedule.step()
            rate.seconds += time.perf_counter() - began
            if step % 20 == 0 or step == most:
                print(f"step {step}: loss {total:.5f}, {rate}", flush=True)
            if step == most:
                return
            if at in due:
                counts = score(model, splits["dev"], nested, device, autocast)
                print(scores(f"epoch {number + at / len(steps):.2f}, dev", counts), flush=True)
                if f1(*counts) > best[0]:
                    best = f1(*counts), {name: value.cpu().clone() for name, value in model.state_dict().items()}
    model.load_state_dict(best[1])
    print(f"PyTorch, {step:,} steps: {rate}; {time.perf_counter() - started:.0f} s with evaluation; best dev F1 {best[0]:.4f}")
    if "test" in splits:
        print(scores("test", score(model, splits["test"], nested, device, autocast)))


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("job", type=Path, help="a training job (TOML)")
    arguments.add_argument("--epochs", type=int, help="instead of the job's max_epochs")
    arguments.add_argument("--steps", type=int, help="stop after this many steps, without a score")
    arguments.add_argument("--seed", type=int, help="instead of the job's")
    arguments.add_argument("--encoder", help="a folder with the pretrained encoder, instead of the job's")
    given = arguments.parse_args()
    data, schema, start, recipe = read_job(given.job, given.encoder)
    recipe["max_epochs"] = given.epochs or recipe["max_epochs"]
    recipe["seed"] = recipe["seed"] if given.seed is None else given.seed
    if recipe["threads"]:
        torch.set_num_threads(recipe["threads"])
    name = recipe["device"]
    device = torch.device(name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(recipe["seed"])
    questions = Questions(Path(start["path"]) / "tokenizer.json", schema, 0, 0)
    questions.window = recipe["max_length"] - questions.longest(0)
    if questions.window < 8:
        sys.exit(f"recipe.max_length = {recipe['max_length']} leaves no tokens for a context")
    questions.overlap = questions.window // 8 if recipe["overlap_tokens"] is None else recipe["overlap_tokens"]
    if questions.overlap > questions.window // 2:
        sys.exit(f"recipe.overlap_tokens = {questions.overlap} is more than half of the window ({questions.window})")
    wanted = ["train"] if given.steps else [name for name in ("train", "dev", "test") if data[name]]
    splits = {name: read_split(data[name], data, questions) for name in wanted}
    train(network(start, recipe, device), splits, questions.schema.get("nested", False), recipe, device, given.steps)


if __name__ == "__main__":
    main()
