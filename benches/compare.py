"""Alternatives in Python, measured alternately with quarry: the same documents, questions, model and machine, in the same hour.

    pip install numpy tokenizers onnxruntime==1.31.0 onnx torch==2.11.0 transformers safetensors
    python benches/compare.py target/release/quarry DOCUMENTS.jsonl
    python benches/compare.py target/release/quarry DOCUMENTS.jsonl --device cuda     # onnxruntime-gpu==1.31.0 instead

DOCUMENTS has one JSON object with `text` per line. The model is quarry's default unless --model names another model directory; quarry exports
its fp32 weights and its standard ONNX graph for the alternatives. All programs split the texts into windows of 256 wordpieces that overlap by
32, ask the same questions, and count mentions: the alternatives count every pair that passes, quarry those that remain after overlaps are
resolved, according to its schema. (Under a schema with `nested = true` the counts are about the same.)

In each round every alternative is measured once, and right before it quarry on the same documents. The table has medians; `slower` is the
median of an alternative's time divided by quarry's in the same turn. quarry's time is that of the whole `quarry run`, from a JSON Lines file
to committed tables, including its start (its batch size is tuned before the first turn). An alternative's time begins after its model is
loaded and ends with the count of its mentions.

The alternatives are loops in Python, because transformers has no pipeline class for this method: batches of 32 queries, sorted by length
over 4,096 queries, or in the order of the input, as a Hugging Face `pipeline(batch_size=32)` forms its batches. PyTorch's rows are
transformers' BertModel, eager, with scaled-dot-product attention, in fp32 on a CPU and in fp16 on a GPU. int8 is ONNX Runtime's
`quantize_dynamic` of the graph of the fp32 row, with a scale per column and weights of seven bits: with its defaults it loses 1.6 points of
F1 on a processor without VNNI. The last row scores all pairs of tokens, one query at a time, as the method's published code does, and reads
a tenth of the documents.
"""

import argparse
import itertools
import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from queries import Questions, by_length, padded, texts

PROJECT = Path(__file__).resolve().parent.parent
WINDOW, OVERLAP, BATCH, LOOK_AHEAD = 256, 32, 32, 4096


class Quarry:
    """Runs quarry."""

    def __init__(self, program, folder, given):
        self.program, self.folder, self.given = program, folder, given

    def export(self):
        """A model directory with fp32 weights, and its standard graph in the device's precision."""
        out, precision = self.folder / "model", "fp16" if self.given.device == "cuda" else "fp32"
        command = [self.program, "export", self.given.model, str(out), "--weights", "fp32", "--graph", f"portable-{precision}", "--no-parity"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return out, out / f"model-{precision}-portable.onnx"

    def seconds(self, documents, precision):
        """Time, real tokens and mentions of a run into an empty store."""
        store, job, profile = self.folder / "store", self.folder / "job.toml", self.folder / "run.prom"
        shutil.rmtree(store, ignore_errors=True)
        job.write_text(
            f'[input]\ndocuments = "{documents}"\nid = "id"\ntext = "text"\n[entities]\nschema = "{self.given.schema.resolve()}"\n'
            f'[model]\npath = "{Path(self.given.model).resolve()}"\ndevice = "{self.given.device}"\nprecision = "{precision}"\n'
            f'[extract]\nwindow_tokens = {WINDOW}\noverlap_tokens = {OVERLAP}\n[store]\npath = "{store}"\n'
        )
        started = time.perf_counter()
        command = [self.program, "run", str(job), "--json", "--metrics-file", str(profile)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        seconds = time.perf_counter() - started
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
        tokens = next(line for line in profile.read_text().splitlines() if line.startswith("quarry_run_tokens"))
        summary = json.loads(done.stdout)
        return seconds, float(tokens.rsplit(" ", 1)[1]), summary["mentions"], summary["precision"]


class OnnxRuntime:
    """tokenizers and ONNX Runtime; the graph scores the candidates."""

    def __init__(self, graph, given):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = given.threads
        provider = "CUDAExecutionProvider" if given.device == "cuda" else "CPUExecutionProvider"
        self.session = onnxruntime.InferenceSession(str(graph), options, providers=[provider])
        assert self.session.get_providers()[0] == provider, f"ONNX Runtime has no {provider}"

    def answer(self, batch):
        names = "input_ids", "attention_mask", "token_type_ids", "start_mask", "end_mask"
        inputs = dict(zip(names, padded(batch))) | {"boundary_logit": np.array(0, np.float32)}
        return int((self.session.run(["span_logits"], inputs)[0] > 0).sum())


class PyTorch:
    """transformers' BertModel in PyTorch, eager, with scaled-dot-product attention."""

    def __init__(self, folder, given):
        import torch
        from safetensors.torch import load_file
        from transformers import BertConfig, BertModel

        torch.set_num_threads(given.threads)
        self.torch, self.device = torch, torch.device(given.device)
        dtype = torch.float16 if given.device == "cuda" else torch.float32
        self.tensors = {name: value.to(self.device, dtype) for name, value in load_file(folder / "model.safetensors").items()}
        config = BertConfig(**json.loads((folder / "config.json").read_text()))
        self.encoder = BertModel(config, add_pooling_layer=False).eval().to(self.device, dtype)
        bert = {name.removeprefix("bert."): value for name, value in self.tensors.items() if name.startswith("bert.")}
        self.encoder.load_state_dict(bert)

    def encode(self, batch):
        ids, attention, types, starts, ends = (self.torch.from_numpy(part).to(self.device) for part in padded(batch))
        hidden = self.encoder(ids, attention_mask=attention, token_type_ids=types).last_hidden_state
        start, end = (self.linear(hidden, f"{side}_outputs").squeeze(-1) for side in ("start", "end"))
        return hidden, (start > 0) & starts, (end > 0) & ends

    def linear(self, values, name):
        return self.torch.nn.functional.linear(values, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def match(self, pairs):
        hidden = self.torch.nn.functional.gelu(self.linear(pairs, "span_embedding.classifier1"))
        return self.linear(hidden, "span_embedding.classifier2").squeeze(-1)

    def answer(self, batch):
        """Scores candidates only, as a careful implementation would."""
        torch = self.torch
        with torch.inference_mode():
            hidden, starts, ends = self.encode(batch)
            row, start, end = torch.nonzero(torch.triu(starts.unsqueeze(2) & ends.unsqueeze(1)), as_tuple=True)
            return int((self.match(torch.cat([hidden[row, start], hidden[row, end]], -1)) > 0).sum())

    def reference(self, batch):
        """Scores all pairs of tokens, as the method's published code does."""
        torch = self.torch
        with torch.inference_mode():
            hidden, starts, ends = self.encode(batch)
            n = hidden.shape[1]
            pairs = torch.cat([hidden.unsqueeze(2).expand(-1, -1, n, -1), hidden.unsqueeze(1).expand(-1, n, -1, -1)], -1)
            found = (self.match(pairs) > 0) & torch.triu(starts.unsqueeze(2) & ends.unsqueeze(1))
            return int(found.sum())


def loop(questions, documents, answer, size, look_ahead):
    """Time, real tokens and mentions, from texts to count; `look_ahead` is the number of queries that are sorted together by length, or
    None to keep the order of the input."""
    started, real, mentions = time.perf_counter(), 0, 0
    stream = (query for text in documents for query in questions.of(text))
    while block := list(itertools.islice(stream, look_ahead or size)):
        if look_ahead:
            block = by_length(block)
        for at in range(0, len(block), size):
            batch = block[at : at + size]
            mentions += answer(batch)
            real += sum(len(query.ids) for query in batch)
    return time.perf_counter() - started, real, mentions


def rivals(folder, graph, given):
    """Name, answer function, queries per batch, queries sorted together; each model is loaded at its first use."""
    loaded = {}

    def once(name, make):
        if name not in loaded:
            loaded[name] = make()
        return loaded[name]

    def onnx(batch):
        return once("onnx", lambda: OnnxRuntime(graph, given)).answer(batch)

    def int8(batch):
        return once("int8", lambda: OnnxRuntime(quantized(graph), given)).answer(batch)

    def torch():
        return once("torch", lambda: PyTorch(folder, given))

    precision = "fp16" if given.device == "cuda" else "fp32"
    ways = [
        (f"tokenizers + onnxruntime, {precision}, sorted", onnx, BATCH, LOOK_AHEAD),
        (f"tokenizers + onnxruntime, {precision}, order of the input", onnx, BATCH, None),
        ("tokenizers + onnxruntime, dynamic int8, sorted", int8, BATCH, LOOK_AHEAD),
        (f"a loop over transformers' BertModel, {precision}, sorted", lambda batch: torch().answer(batch), BATCH, LOOK_AHEAD),
        (f"the same, {precision}, order of the input (`pipeline`)", lambda batch: torch().answer(batch), BATCH, None),
        ("all pairs of tokens scored, one query at a time", lambda batch: torch().reference(batch), 1, None),
    ]
    # ONNX Runtime computes 8-bit integers on CPUs only.
    return [way for way in ways if given.device == "cpu" or "int8" not in way[0]]


def quantized(graph):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().setLevel(logging.ERROR)  # It warns about every tensor that it does not quantize.
    out = graph.with_name("model-dynamic-int8.onnx")
    quantize_dynamic(str(graph), str(out), weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)
    return out


def turns(quarry, questions, documents, folder, graph, given):
    """For every row of the table its measurements: time, tokens and mentions, and quarry's time right before."""
    few = documents[: max(1, len(documents) // 10)]
    files = {}
    for name, part in (("all", documents), ("few", few)):
        files[name] = folder / f"{name}.jsonl"
        files[name].write_text("".join(json.dumps({"id": number, "text": text}) + "\n" for number, text in enumerate(part)))
    ways = [way for way in rivals(folder, graph, given) if given.only in way[0]]
    # Tuning the batch size, writing the graph and loading models must not be measured.
    _, _, _, precision = quarry.seconds(files["few"], "auto")
    plain = given.device == "cpu" and precision != "fp32"
    if plain:
        quarry.seconds(files["few"], "fp32")
    for _, answer, size, _ in ways:
        answer(list(itertools.islice(questions.of(documents[0]), size)))
    name, found = f"`quarry run`, {precision}", {}
    for number in range(1, given.rounds + 1):
        for way, answer, size, look_ahead in ways:
            tenth = size == 1
            before = quarry.seconds(files["few" if tenth else "all"], "auto")[:3]
            took = loop(questions, few if tenth else documents, answer, size, look_ahead)
            if not tenth:
                found.setdefault(name, []).append((*before, before[0]))
            found.setdefault(way, []).append((*took, before[0]))
            print(f"round {number}: {way}: {took[0]:.1f} s, quarry {before[0]:.1f} s", flush=True)
        if plain:
            before, took = quarry.seconds(files["all"], "auto")[:3], quarry.seconds(files["all"], "fp32")[:3]
            found[name].append((*before, before[0]))
            found.setdefault("`quarry run`, fp32", []).append((*took, before[0]))
    return found


def table(found):
    print("\n| | real tokens/s | seconds | turns | mentions | slower |\n|---|---:|---:|---:|---:|---:|")
    for way, rows in found.items():
        rate, seconds = statistics.median(row[1] / row[0] for row in rows), statistics.median(row[0] for row in rows)
        slower = statistics.median(row[0] / row[3] for row in rows)
        print(f"| {way} | {rate:,.0f} | {seconds:.1f} | {len(rows)} | {rows[0][2]:,} | {slower:.2f} |")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("quarry", help="the program")
    arguments.add_argument("documents", type=Path)
    arguments.add_argument("--model", default=str(PROJECT / "models/default"), help="a model directory")
    arguments.add_argument("--schema", type=Path, default=PROJECT / "schemas/conll03.toml")
    arguments.add_argument("--documents", dest="count", type=int, default=150)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    arguments.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of the alternatives; quarry uses all cores")
    arguments.add_argument("--only", default="", help="only alternatives whose name contains this")
    given = arguments.parse_args()
    documents = texts(given.documents, given.count)
    with tempfile.TemporaryDirectory() as folder:
        quarry = Quarry(str(Path(given.quarry).resolve()), Path(folder), given)
        model, graph = quarry.export()
        questions = Questions(model / "tokenizer.json", given.schema, WINDOW, OVERLAP)
        table(turns(quarry, questions, documents, model, graph, given))


if __name__ == "__main__":
    main()
