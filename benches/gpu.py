"""GPU utilization: compares the matrix peak, PyTorch and whole jobs of quarry, with one model and corpus.

    pip install torch==2.11.0 tokenizers safetensors numpy pyarrow
    python benches/gpu.py target/release/quarry FOLDER                          # on one NVIDIA GPU; needs no network
    python benches/gpu.py target/release/quarry FOLDER --device cpu --small     # tests the script itself

The model is a BERT-base with random weights, whose start and end logits are shifted until one token in a hundred passes: its answers mean
nothing, but it has about as many candidates as a trained model. The documents are random sentences from jobs/demo, with the lengths of
newswire. Both stay in FOLDER, with every job, log and store, and gpu.json, which has all figures.

The script finds ONNX Runtime as quarry does: QUARRY_ONNXRUNTIME names its library, or it lies beside the program or in the cache. The CUDA
libraries of PyTorch's packages are appended to LD_LIBRARY_PATH.

Measurements:

- Matrix peak: fp16 products of square matrices of random numbers, computed by cuBLAS through PyTorch, at the best size.
- PyTorch: the same model in fp16 with scaled-dot-product attention. Batches are sorted by length over the whole sample, padded to a multiple
  of 8 tokens, and have no mask if they have no padding; eager and with torch.compile, at several batch sizes, the median of three rounds.
  The batches are copied to the GPU before the clock starts: tokenizing, batching and copying are excluded. One row gives the rate of a single
  Python process that includes them.
- quarry: `quarry run` from Parquet to tables in an empty store. The first run reads a few documents; it includes writing the graph and tuning
  the batch size, whose rate is that of the session alone. The second run is the measurement, with its start and its commit.

Per layer, a token costs two operations for each weight of the four attention and the two feed-forward matrices, and 4·L·h in attention
over the L tokens of its query (L·h products and as many sums for the scores, and again for the mix; h is the hidden size). Embeddings,
normalization, softmax and heads are not counted. L is the mean over tokens. Only real tokens count as work, not padding.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

import bert
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from queries import Questions, by_budget, by_length, padded
from safetensors.torch import save_file

PROJECT = Path(__file__).resolve().parent.parent
SCHEMAS = {4: "schemas/conll03.toml", 5: "schemas/genia.toml", 7: "schemas/ace.toml", 18: "schemas/ontonotes5.toml"}
WINDOW, OVERLAP = 256, 32
GOALS = {"peak": 0.5, "whole": 0.9, "pytorch": 1.0, "padding": 0.03}

BASE = {
    "model_type": "bert", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "hidden_act": "gelu", "layer_norm_eps": 1e-12, "max_position_embeddings": 512, "type_vocab_size": 2, "pad_token_id": 0,
    "classifier_intermediate_hidden_size": 1024, "classifier_act_func": "gelu",
}  # fmt: skip
TINY = BASE | {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}


class Scale:
    """Size of the measurement."""

    def __init__(self, small, documents):
        self.config = TINY if small else BASE
        self.documents = documents or (60 if small else 100_000)  # of the job with four types; others have as many queries
        self.first = 5 if small else 500  # documents of the first run
        self.sample = 5_000 if small else 2_000_000  # real tokens of PyTorch's sample
        self.squares = (128, 256) if small else (2048, 4096, 8192, 12288, 16384)
        self.budgets = (512, 1024) if small else tuple(1 << power for power in range(14, 19))
        self.rounds = 1 if small else 3


class Device:
    """PyTorch's device and number format."""

    def __init__(self, name):
        self.torch = torch.device(name)
        self.dtype = torch.float16 if self.torch.type == "cuda" else torch.float32
        self.precision = "fp16" if self.torch.type == "cuda" else "fp32"

    def name(self):
        if self.torch.type == "cpu":
            return f"CPU, {torch.get_num_threads()} threads"
        gpu = torch.cuda.get_device_properties(self.torch)
        return f"{gpu.name}, {gpu.multi_processor_count} multiprocessors, {gpu.total_memory / 2**30:.0f} GiB"

    def seconds(self, work):
        """Duration of `work` until the device has finished it."""
        self.wait()
        started = time.perf_counter()
        work()
        self.wait()
        return time.perf_counter() - started

    def wait(self):
        if self.torch.type == "cuda":
            torch.cuda.synchronize(self.torch)


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def corpus(path, count):
    """Documents with a log-normal number of words, as in Reuters-21578."""
    bodies = pq.read_table(PROJECT / "jobs/demo/documents.parquet", columns=["body"])["body"].to_pylist()
    sentences = [sentence + ". " for body in bodies for sentence in body.split(". ") if sentence.strip()]
    lengths = [len(sentence.split()) for sentence in sentences]
    draw, found = random.Random(7), []
    for _ in range(count):
        words, text = min(max(draw.lognormvariate(4.34, 0.98), 3), 5000), []
        while words > 0:
            place = draw.randrange(len(sentences))
            words -= lengths[place]
            text.append(sentences[place])
        found.append("".join(text))
    ids = [str(number) for number in range(count)]
    pq.write_table(pa.table({"doc_id": ids, "text": found}), path, row_group_size=10_000)
    return found


def make_model(quarry, folder, config, sample, device):
    """A model directory with random weights."""
    checkpoint, directory = folder / "checkpoint", folder / "model"
    checkpoint.mkdir()
    shutil.copy(PROJECT / "models/default/tokenizer.json", checkpoint)
    vocabulary = json.loads((checkpoint / "tokenizer.json").read_text())["model"]["vocab"]
    config = config | {"vocab_size": max(vocabulary.values()) + 1}
    (checkpoint / "config.json").write_text(json.dumps(config, indent=2))
    torch.manual_seed(7)
    model = bert.BertMrc(config).eval()
    for name, value in model.named_parameters():
        if value.dim() > 1:
            torch.nn.init.normal_(value, 0.0, 0.02)
        elif "LayerNorm" not in name:
            torch.nn.init.zeros_(value)
    shift_boundaries(model.to(device.torch), sample, device)
    save_file({name: value.cpu().contiguous() for name, value in model.state_dict().items()}, checkpoint / "model.safetensors")
    command = [quarry, "export", str(checkpoint), str(directory), "--no-parity"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return directory


def shift_boundaries(model, sample, device, share=0.01):
    """Shifts the start and end biases so that this share of the sample's tokens passes."""
    ids, attention, types, starts, ends = (torch.from_numpy(part).to(device.torch) for part in padded(sample))
    with torch.inference_mode():
        hidden = model.encode(ids, types, attention.bool()[:, None, None, :])
        logits = model.boundaries(hidden)
    for head, found, allowed in zip((model.start_outputs, model.end_outputs), logits, (starts, ends)):
        with torch.no_grad():
            head.bias -= torch.quantile(found[allowed], 1 - share)


def matrix_peak(device, sizes):
    """The most operations per second in a product of square matrices, and its size."""
    rates = {}
    for size in sizes:
        left, right = (torch.randn(size, size, device=device.torch, dtype=device.dtype) for _ in range(2))
        out = torch.empty_like(left)

        def multiply(times):
            for _ in range(times):
                torch.matmul(left, right, out=out)

        once = device.seconds(lambda: multiply(2)) / 2
        once = min(once, device.seconds(lambda: multiply(2)) / 2)
        times = max(2, int(0.1 / once))
        rates[size] = 2 * size**3 / statistics.median(device.seconds(lambda: multiply(times)) / times for _ in range(5))
    best = max(rates, key=rates.get)
    return rates[best], best


def encoder_flop(config, length):
    """Operations of a token in the encoder; see the module's docstring."""
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    return config["num_hidden_layers"] * (2 * (4 * hidden**2 + 2 * hidden * inner) + 4 * length * hidden)


class Rival:
    """The model in PyTorch."""

    def __init__(self, checkpoint, device):
        config, tensors = bert.read(checkpoint)
        self.device, self.model = device, bert.BertMrc(config).eval()
        self.model.load_state_dict(tensors)
        self.model.to(device.torch, device.dtype)
        self.encode = {"eager": self.model.encode}

    def compile(self):
        # One compilation for all shapes with a mask, one for those without.
        self.encode["torch.compile"] = torch.compile(self.model.encode, dynamic=True)

    def tensors(self, batch):
        parts = [torch.from_numpy(part).to(self.device.torch) for part in padded(batch, 8)]
        ids, attention, types, starts, ends = parts
        mask = None if bool(attention.all()) else attention.bool()[:, None, None, :]
        return ids, types, mask, starts, ends

    def answer(self, way, batch):
        """Match logits of a batch's candidates."""
        ids, types, mask, starts, ends = batch
        with torch.inference_mode():
            hidden = self.encode[way](ids, types, mask)
            start, end = self.model.boundaries(hidden)
            index = torch.nonzero(bert.pairs((start > 0) & starts, (end > 0) & ends))
            return self.model.match(hidden, index)

    def measure(self, way, queries, budget, rounds):
        """Real tokens per second, with prepared batches."""
        batches = [self.tensors(batch) for batch in by_budget(queries, budget)]
        real = sum(len(query.ids) for query in queries)

        def answer_all():
            for batch in batches:
                self.answer(way, batch)

        answer_all()
        return real / statistics.median(self.device.seconds(answer_all) for _ in range(rounds))

    def from_texts(self, way, questions, texts, budget):
        """Real tokens per second of one process: tokenizers in threads, the rest in Python."""
        real = 0

        def work():
            nonlocal real
            encodings = questions.tokenizer.encode_batch(texts, add_special_tokens=False)
            queries = by_length(query for encoding in encodings for query in questions.ask(encoding))
            real = sum(len(query.ids) for query in queries)
            for batch in by_budget(queries, budget):
                self.answer(way, self.tensors(batch)).cpu()

        seconds = self.device.seconds(work)
        return real / seconds


def pytorch(rival, questions, texts, queries, scale):
    """The best rate and batch size of each mode, and the rate from texts of the better mode."""
    rates = {}
    for way, budget in itertools.product(rival.encode, scale.budgets):
        try:
            rates[way, budget] = rival.measure(way, queries, budget, scale.rounds)
        except Exception as error:  # torch.compile failed or memory is exhausted: continue with the other rows.
            say(f"PyTorch, {way}, batches of {budget} tokens: {str(error).splitlines()[0]}")
            continue
        say(f"PyTorch, {way}, batches of {budget} tokens: {rates[way, budget]:,.0f} tokens/s")
    best = {way: max((key for key in rates if key[0] == way), key=rates.get, default=None) for way in rival.encode}
    found = {way: {"tokens_per_second": rates[key], "batch_tokens": key[1]} for way, key in best.items() if key}
    way, budget = max(rates, key=rates.get)
    return found, rival.from_texts(way, questions, texts, budget)


def libraries():
    """Folders of the CUDA libraries in PyTorch's packages."""
    roots = {Path(folder) / "nvidia" for folder in sys.path if folder}
    return sorted({str(library.parent) for root in roots for library in root.glob("*/lib/*.so*")})


class Quarry:
    """Runs the program; all jobs are in one folder."""

    def __init__(self, program, folder, model, device):
        self.program, self.folder, self.model, self.device = program, folder, model, device
        path = [os.environ.get("LD_LIBRARY_PATH", ""), *libraries()]
        self.environment = os.environ | {"LD_LIBRARY_PATH": ":".join(filter(None, path))}

    def run(self, name, documents, schema, limit=None):
        """Figures of one run into an empty store."""
        job, store, log = (self.folder / f"{name}{ending}" for ending in (".toml", "-store", ".log"))
        shutil.rmtree(store, ignore_errors=True)
        sections = {
            "input": {"documents": documents, "id": "doc_id", "text": "text"},
            "entities": {"schema": PROJECT / schema},
            "model": {"path": self.model, "device": self.device.torch, "precision": self.device.precision},
            "store": {"path": store},
        }
        text = [f"[{name}]\n" + "".join(f'{key} = "{value}"\n' for key, value in keys.items()) for name, keys in sections.items()]
        job.write_text("".join(text) + f"[extract]\nwindow_tokens = {WINDOW}\noverlap_tokens = {OVERLAP}\n")
        command = [self.program, "run", str(job), "--json", *([] if limit is None else ["--limit", str(limit)])]
        with log.open("w") as stderr:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=self.environment)
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{log.read_text()[-3000:]}{done.stdout[-3000:]}")
        metrics = self.rows(store, "SELECT scope, name, value FROM metrics")
        return {
            "summary": json.loads(done.stdout),
            "all": {row["name"]: row["value"] for row in metrics if row["scope"] == "all"},
            "stages": {row["scope"][6:]: row["value"] for row in metrics if row["scope"][:6] == "stage:" and row["name"] == "seconds"},
            "model_hash": self.rows(store, "SELECT model_hash FROM runs")[0]["model_hash"],
        }

    def rows(self, store, query):
        command = [self.program, "sql", str(store), query, "--format", "json"]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=self.environment).stdout
        return [json.loads(line) for line in out.splitlines()]

    def bare_session(self, run, longest):
        """Batch size and rate that the program cached when it tuned the batch size; None if it could not measure."""
        variable = os.environ.get
        cache = Path(variable("XDG_CACHE_HOME") or Path.home() / ".cache") / "quarry"
        cache = Path(variable("QUARRY_CACHE") or cache)
        wanted = {"model": run["model_hash"], "longest": longest} | {key: run["summary"][key] for key in ("device", "precision")}
        for path in sorted(cache.glob("budget-*.json"), key=lambda path: -path.stat().st_mtime):
            found = json.loads(path.read_text())
            if wanted.items() <= found["found_for"].items():
                return {"batch_tokens": found["batch_tokens"], "tokens_per_second": found["tokens_per_second"]}
        return None


def measure(types, quarry, rival, texts, documents, peak, scale):
    """All figures for a number of types."""
    questions = Questions(quarry.model / "tokenizer.json", PROJECT / SCHEMAS[types], WINDOW, OVERLAP)
    queries, tokens, used = [], 0, 0
    while tokens < scale.sample and used < len(texts):
        more = list(questions.of(texts[used]))
        queries, tokens, used = queries + more, tokens + sum(len(query.ids) for query in more), used + 1
    queries = by_length(queries)
    say(f"{types} types: PyTorch answers {len(queries):,} queries of {tokens:,} tokens")
    length = sum(len(query.ids) ** 2 for query in queries) / tokens
    ways, from_texts = pytorch(rival, questions, texts[:used], queries, scale)
    rate = max(way["tokens_per_second"] for way in ways.values())
    if quarry.device.torch.type == "cuda":
        torch.cuda.empty_cache()

    first = quarry.run(f"first-{types}", documents, SCHEMAS[types], scale.first)
    limit = scale.documents * 4 // types
    run = quarry.run(f"run-{types}", documents, SCHEMAS[types], limit if limit < scale.documents else None)
    figures, stages = run["all"], run["stages"]
    real, seconds = figures["real_tokens"], figures["seconds"]
    say(f"{types} types: quarry answers {real:,.0f} tokens in {seconds:.1f} s")
    bare = quarry.bare_session(run, questions.longest(WINDOW))
    flop = encoder_flop(scale.config, length)
    return {
        "types": types, "mean_length": length, "flop_per_token": flop, "pytorch": ways, "pytorch_from_texts": from_texts,
        "first_seconds": first["all"]["seconds"], "bare_session": bare, "figures": figures, "stages": stages,
        "precision": run["summary"]["precision"], "tokens_per_second": real / seconds, "after_start": real / (seconds - stages["start"]),
        "in_session": real / stages["inference"], "busy": stages["inference"] / seconds, "padding": figures["padding"],
        "of_peak": real / seconds * flop / peak, "of_bare": bare and real / seconds / bare["tokens_per_second"],
        "of_pytorch": real / seconds / rate, "pytorch_of_peak": rate * flop / peak,
    }  # fmt: skip


def table(found, peak, size, device, config):
    """Prints the results: one row per figure, one column per number of types."""

    def row(name, value):
        print(f"{name:48}" + "".join(f"{value(one):>24}" for one in found))

    def rate(way):
        return f"{way['tokens_per_second']:,.0f} ({way['batch_tokens']:,})" if way else "not measured"

    def share(value):
        return "not measured" if value is None else f"{value:.1%}"

    def count(name):
        return lambda one: f"{one['figures'][name]:,.0f}"

    weights = 4 * config["hidden_size"] ** 2 + 2 * config["hidden_size"] * config["intermediate_size"]
    layers, hidden = config["num_hidden_layers"], config["hidden_size"]
    print(f"\n{device.name()}, PyTorch {torch.__version__}")
    print(f"matrix peak, {device.precision}: {peak / 1e12:.3g} TFLOP/s ({size} x {size} x {size})")
    print(f"operations per token: {layers} layers x (2 x {weights:,} weights + 4 x L x {hidden}), L the mean length of its query\n")
    row("", lambda one: f"{one['types']} types")
    row("L", lambda one: f"{one['mean_length']:.0f}")
    row("operations per token, millions", lambda one: f"{one['flop_per_token'] / 1e6:,.1f}")
    for way in dict.fromkeys(way for one in found for way in one["pytorch"]):
        row(f"PyTorch, {way}, tokens/s (its best batch)", lambda one: rate(one["pytorch"].get(way)))
    row("  share of the matrix peak", lambda one: share(one["pytorch_of_peak"]))
    row("  from texts, one Python process, tokens/s", lambda one: f"{one['pytorch_from_texts']:,.0f}")
    row("quarry, session alone, tokens/s (its best batch)", lambda one: rate(one["bare_session"]))
    row("quarry run, whole job, real tokens/s", lambda one: f"{one['tokens_per_second']:,.0f}")
    row("  without the start", lambda one: f"{one['after_start']:,.0f}")
    row("  within the session", lambda one: f"{one['in_session']:,.0f}")
    row("  share of time in the session", lambda one: share(one["busy"]))
    for name in ("documents", "queries", "batches", "mentions", "undecided"):
        row(f"  {name}", count(name))
    row("  seconds", lambda one: f"{one['figures']['seconds']:,.1f}")
    for stage in found[0]["stages"]:
        row(f"    {stage}, all threads", lambda one: f"{one['stages'][stage]:,.2f}")
    row("  seconds of the first run", lambda one: f"{one['first_seconds']:,.1f}")
    print()
    goals = {
        "of_peak": (f"real tokens: {GOALS['peak']:.0%} of the matrix peak", lambda value: value >= GOALS["peak"]),
        "of_bare": (f"whole job: {GOALS['whole']:.0%} of the session alone", lambda value: value >= GOALS["whole"]),
        "of_pytorch": ("faster than PyTorch's best", lambda value: value > GOALS["pytorch"]),
        "padding": (f"padding below {GOALS['padding']:.0%}", lambda value: value < GOALS["padding"]),
    }
    for key, (name, met) in goals.items():

        def verdict(one):
            value = one[key]
            return "not measured" if value is None else f"{share(value)} {'met' if met(value) else 'MISSED'}"

        row(name, verdict)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("quarry", help="the program")
    arguments.add_argument("folder", type=Path, help="the output folder; must be empty or not exist")
    arguments.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu")
    arguments.add_argument("--small", action="store_true", help="a tiny model and few documents, to test the script")
    arguments.add_argument("--types", type=int, nargs="+", default=[4, 18], choices=SCHEMAS)
    arguments.add_argument("--documents", type=int, help="documents of the job with four types; others have as many queries")
    arguments.add_argument("--no-compile", action="store_true", help="skip torch.compile, which takes a minute or two")
    given = arguments.parse_args()
    device, scale = Device(given.device), Scale(given.small, given.documents)
    folder = given.folder.resolve()
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"{folder} is not empty: its model and stores belong to another measurement")
    folder.mkdir(parents=True, exist_ok=True)
    quarry = str(Path(given.quarry).resolve())

    peak, size = matrix_peak(device, scale.squares)
    say(f"matrix peak: {peak / 1e12:.3g} TFLOP/s at {size}")
    texts = corpus(folder / "documents.parquet", scale.documents)
    questions = Questions(PROJECT / "models/default/tokenizer.json", PROJECT / SCHEMAS[4], WINDOW, OVERLAP)
    sample = [query for text in texts[:20] for query in questions.of(text)][:64]
    model = make_model(quarry, folder, scale.config, sample, device)
    say(f"{len(texts):,} documents and the model are written")
    rival = Rival(folder / "checkpoint", device)
    if not (given.no_compile or given.small):
        rival.compile()
    program = Quarry(quarry, folder, model, device)
    found = [measure(types, program, rival, texts, folder / "documents.parquet", peak, scale) for types in given.types]
    version = subprocess.run([quarry, "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    everything = {
        "quarry": version, "device": device.name(), "torch": torch.__version__, "config": scale.config,
        "peak": peak, "peak_size": size, "measured": found,
    }  # fmt: skip
    (folder / "gpu.json").write_text(json.dumps(everything, indent=2))
    table(found, peak, size, device, scale.config)


if __name__ == "__main__":
    main()
