"""A token-classification checkpoint in Python, measured alternately with quarry: the same weights, documents and machine, in the same hour.

    pip install numpy tokenizers onnxruntime==1.31.0 onnx torch transformers datasets
    python benches/pipeline.py target/release/quarry DOCUMENTS.jsonl CHECKPOINT

DOCUMENTS has one JSON object with `text` per line; CHECKPOINT is the folder of a `*ForTokenClassification` model, as transformers writes it.
All programs read windows of 128 wordpieces that overlap by 32 and find the tagged names of each document. quarry decodes the tags that are
allowed and best together; `pipeline` takes the best tag of each word's first wordpiece (`aggregation_strategy="first"`); the loops over ONNX
Runtime count where names begin, and count those in two windows twice. So the mentions differ a little.

In each round every alternative is measured once, and right before it quarry. No time includes a start: quarry's is that of the whole `quarry
run`, from a JSON Lines file to committed tables, less its stage `start`; an alternative's begins after its model is loaded and ends with the
count of its mentions. The table has medians; `slower` is the median of an alternative's time divided by quarry's right before.

The ONNX graph is the one that quarry exports in standard operators; int8 is ONNX Runtime's `quantize_dynamic` of it, as in compare.py.
"""

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from compare import quantized, table
from queries import texts
from tokenizers import Tokenizer

PROJECT = Path(__file__).resolve().parent.parent
WINDOW, OVERLAP, BATCH, LOOK_AHEAD = 128, 32, 32, 4096
FRAME = 2  # [CLS] and [SEP]


class Quarry:
    """Runs quarry."""

    def __init__(self, program, folder, given):
        self.program, self.folder, self.given = program, folder, given

    def graph(self):
        """The standard graph in fp32."""
        out = self.folder / "model"
        command = [self.program, "export", self.given.checkpoint, str(out), "--schema", str(self.given.schema), "--weights", "fp32"]
        subprocess.run([*command, "--graph", "portable-fp32", "--no-parity"], check=True, stdout=subprocess.DEVNULL)
        return out / "model-fp32-portable.onnx"

    def seconds(self, documents):
        """Time without the start, real tokens and mentions of a run into an empty store."""
        store, job, figures = self.folder / "store", self.folder / "job.toml", self.folder / "run.prom"
        shutil.rmtree(store, ignore_errors=True)
        job.write_text(
            f'[input]\ndocuments = "{documents}"\nid = "id"\ntext = "text"\n[entities]\nschema = "{self.given.schema.resolve()}"\n'
            f'[model]\npath = "{Path(self.given.checkpoint).resolve()}"\ndevice = "cpu"\n'
            f'[extract]\nwindow_tokens = {WINDOW}\noverlap_tokens = {OVERLAP}\nthreshold = 1e-6\n[store]\npath = "{store}"\n'
        )
        started = time.perf_counter()
        command = [self.program, "run", str(job), "--json", "--metrics-file", str(figures)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        whole = time.perf_counter() - started
        if done.returncode != 0:
            sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
        start = next(line for line in figures.read_text().splitlines() if line.startswith("quarry_run_stage_seconds") and 'stage="start"' in line)
        tokens = next(line for line in figures.read_text().splitlines() if line.startswith("quarry_run_tokens"))
        last = lambda line: float(line.rsplit(" ", 1)[1])  # noqa: E731
        return whole - last(start), last(tokens), json.loads(done.stdout)["mentions"]


class OnnxRuntime:
    """tokenizers and ONNX Runtime."""

    def __init__(self, graph, given):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = given.threads
        self.session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
        self.inputs = [one.name for one in self.session.get_inputs()]
        self.tokenizer = Tokenizer.from_file(str(Path(given.checkpoint) / "tokenizer.json"))
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(WINDOW + FRAME, stride=OVERLAP)
        labels = json.loads((Path(given.checkpoint) / "config.json").read_text())["id2label"]
        self.begins = np.array([labels[str(at)].startswith("B-") for at in range(len(labels))])

    def windows(self, documents):
        """The windows of all documents, as the tokenizer cuts them."""
        for text in documents:
            encoding = self.tokenizer.encode(text)
            yield from (encoding, *encoding.overflowing)

    def find(self, documents, look_ahead):
        """The number of mentions."""
        found, stream = 0, self.windows(documents)
        while block := list(itertools.islice(stream, look_ahead)):
            block.sort(key=len)
            for at in range(0, len(block), BATCH):
                found += self.answer(block[at : at + BATCH])
        return found

    def answer(self, batch):
        shape = len(batch), max(map(len, batch))
        ids, mask, first = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros(shape, bool)
        for row, window in enumerate(batch):
            words = np.array([-1 if word is None else word for word in window.word_ids])
            ids[row, : len(window)], mask[row, : len(window)] = window.ids, 1
            first[row, : len(window)] = (words >= 0) & np.concatenate([[True], words[1:] != words[:-1]])
        named = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros(shape, np.int64)}
        (logits,) = self.session.run(["logits"], {name: named[name] for name in self.inputs})
        return int((self.begins[logits.argmax(-1)] & first).sum())


class Pipeline:
    """transformers' pipeline over a dataset."""

    def __init__(self, given):
        import torch
        import transformers

        torch.set_num_threads(given.threads)
        transformers.logging.set_verbosity_error()
        tokenizer = transformers.AutoTokenizer.from_pretrained(given.checkpoint, model_max_length=WINDOW + FRAME)
        self.pipeline = transformers.pipeline(
            "token-classification", model=given.checkpoint, tokenizer=tokenizer, stride=OVERLAP, aggregation_strategy="first", device="cpu"
        )

    def find(self, documents):
        """The number of mentions."""
        from datasets import Dataset
        from transformers.pipelines.pt_utils import KeyDataset

        dataset = KeyDataset(Dataset.from_list([{"text": text} for text in documents]), "text")
        return sum(map(len, self.pipeline(dataset, batch_size=BATCH)))


def ways(graph, given):
    """Name and function, which counts the mentions of documents."""
    pipeline, fp32, int8 = Pipeline(given), OnnxRuntime(graph, given), OnnxRuntime(quantized(graph), given)
    return [
        ("`pipeline` over `datasets`, fp32, order of the input", pipeline.find),
        ("`pipeline` over `datasets`, fp32, sorted", lambda documents: pipeline.find(sorted(documents, key=len))),
        ("tokenizers + onnxruntime, fp32, sorted", lambda documents: fp32.find(documents, LOOK_AHEAD)),
        ("tokenizers + onnxruntime, dynamic int8, sorted", lambda documents: int8.find(documents, LOOK_AHEAD)),
    ]


def turns(quarry, documents, given):
    """For every row of the table its measurements: time, tokens and mentions, and quarry's time right before."""
    file = quarry.folder / "documents.jsonl"
    file.write_text("".join(json.dumps({"id": number, "text": text}) + "\n" for number, text in enumerate(documents)))
    # Tuning the batch size, writing the graph and loading models must not be measured.
    rivals = [way for way in ways(quarry.graph(), given) if given.only in way[0]]
    quarry.seconds(file)
    for _, find in rivals:
        find(documents[:BATCH])
    found = {}
    for number in range(1, given.rounds + 1):
        for way, find in rivals:
            before = quarry.seconds(file)
            started = time.perf_counter()
            mentions = find(documents)
            took = time.perf_counter() - started
            found.setdefault("`quarry run`", []).append((*before, before[0]))
            found.setdefault(way, []).append((took, before[1], mentions, before[0]))
            print(f"round {number}: {way}: {took:.1f} s, quarry {before[0]:.1f} s", flush=True)
    return found


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("quarry", help="the program")
    arguments.add_argument("documents", type=Path)
    arguments.add_argument("checkpoint")
    arguments.add_argument("--schema", type=Path, default=PROJECT / "schemas/conll03.toml", help="the types, named as the checkpoint's tags")
    arguments.add_argument("--documents", dest="count", type=int, default=600)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of the alternatives; quarry uses all cores")
    arguments.add_argument("--only", default="", help="only alternatives whose name contains this")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        quarry = Quarry(str(Path(given.quarry).resolve()), Path(folder), given)
        table(turns(quarry, texts(given.documents, given.count), given))


if __name__ == "__main__":
    main()
