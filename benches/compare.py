"""What people use instead, on the same documents, model and machine: how many real tokens a second each answers.

    pip install numpy tokenizers onnxruntime==1.31.0 torch==2.11.0 transformers safetensors
    quarry export CHECKPOINT model --graph portable-fp32
    python benches/compare.py DOCUMENTS.jsonl CHECKPOINT model/model-fp32-portable.onnx --documents 400

DOCUMENTS has a JSON object with `text` a line; CHECKPOINT is a folder with BERT-MRC weights in fp32. Every way cuts the texts into the
same windows, asks the same questions, and counts mentions, which must be about as many.
"""

import argparse
import itertools
import json
import time
import tomllib
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

WINDOW, OVERLAP, BATCH = 256, 64, 32


class Queries:
    """The queries of documents, as lists of ids with their masks."""

    def __init__(self, checkpoint, schema):
        self.tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        types = tomllib.loads(Path(schema).read_text())["type"]
        self.questions = [self.tokenizer.encode(one["question"], add_special_tokens=False).ids for one in types]
        self.begin, self.end = self.tokenizer.token_to_id("[CLS]"), self.tokenizer.token_to_id("[SEP]")

    def of(self, text):
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        words = encoding.word_ids
        for start in range(0, max(1, len(words) - OVERLAP), WINDOW - OVERLAP):
            ids, word = encoding.ids[start : start + WINDOW], words[start : start + WINDOW]
            first = [at == 0 or word[at] != word[at - 1] for at in range(len(word))]
            last = [at + 1 == len(word) or word[at] != word[at + 1] for at in range(len(word))]
            for question in self.questions:
                prefix = [self.begin, *question, self.end]
                no = [False] * len(prefix)
                yield prefix + ids + [self.end], len(prefix), no + first + [False], no + last + [False]


def padded(batch):
    """ids, attention, types, starts, ends: arrays [rows, tokens]."""
    shape = len(batch), max(len(query[0]) for query in batch)
    ids, attention, types = (np.zeros(shape, np.int64) for _ in range(3))
    starts, ends = np.zeros(shape, bool), np.zeros(shape, bool)
    for row, (tokens, context, first, last) in enumerate(batch):
        ids[row, : len(tokens)], attention[row, : len(tokens)] = tokens, 1
        types[row, context : len(tokens)] = 1
        starts[row, : len(first)], ends[row, : len(last)] = first, last
    return ids, attention, types, starts, ends


class OnnxRuntime:
    """tokenizers and ONNX Runtime, the candidates scored in the graph."""

    def __init__(self, graph, threads):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def answer(self, batch):
        names = "input_ids", "attention_mask", "token_type_ids", "start_mask", "end_mask"
        inputs = dict(zip(names, padded(batch))) | {"boundary_logit": np.array(0, np.float32)}
        return int((self.session.run(["span_logits"], inputs)[0] > 0).sum())


class PyTorch:
    """transformers' BertModel in PyTorch, eager, with scaled-dot-product attention, in fp32."""

    def __init__(self, checkpoint, threads):
        import torch
        from safetensors.torch import load_file
        from transformers import BertConfig, BertModel

        torch.set_num_threads(threads)
        tensors = load_file(checkpoint / "model.safetensors")
        config = BertConfig(**json.loads((checkpoint / "config.json").read_text()))
        self.torch, self.tensors = torch, tensors
        self.encoder = BertModel(config, add_pooling_layer=False).eval()
        bert = {name.removeprefix("bert."): value for name, value in tensors.items() if name.startswith("bert.")}
        self.encoder.load_state_dict({name: value for name, value in bert.items() if not name.startswith("pooler")})

    def encode(self, batch):
        ids, attention, types, starts, ends = map(self.torch.from_numpy, padded(batch))
        hidden = self.encoder(ids, attention_mask=attention, token_type_ids=types).last_hidden_state
        start, end = (self.linear(hidden, f"{side}_outputs").squeeze(-1) for side in ("start", "end"))
        return hidden, (start > 0) & starts, (end > 0) & ends

    def linear(self, values, name):
        return self.torch.nn.functional.linear(values, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def match(self, pairs):
        hidden = self.torch.nn.functional.gelu(self.linear(pairs, "span_embedding.classifier1"))
        return self.linear(hidden, "span_embedding.classifier2").squeeze(-1)

    def answer(self, batch):
        """Candidates only, as somebody who cares would write it."""
        torch = self.torch
        with torch.inference_mode():
            hidden, starts, ends = self.encode(batch)
            row, start, end = torch.nonzero(torch.triu(starts.unsqueeze(2) & ends.unsqueeze(1)), as_tuple=True)
            return int((self.match(torch.cat([hidden[row, start], hidden[row, end]], -1)) > 0).sum())

    def reference(self, batch):
        """All pairs of tokens, as the method's published code does it."""
        torch = self.torch
        with torch.inference_mode():
            hidden, starts, ends = self.encode(batch)
            n = hidden.shape[1]
            pairs = torch.cat([hidden.unsqueeze(2).expand(-1, -1, n, -1), hidden.unsqueeze(1).expand(-1, n, -1, -1)], -1)
            found = (self.match(pairs) > 0) & torch.triu(starts.unsqueeze(2) & ends.unsqueeze(1))
            return int(found.sum())


def timed(name, queries, texts, answer, size, look_ahead):
    """Everything from the text to the count of mentions; `look_ahead` is how many queries are sorted by length, none for input order."""
    started, real, slots, mentions = time.perf_counter(), 0, 0, 0
    stream = (query for text in texts for query in queries.of(text))
    while block := list(itertools.islice(stream, look_ahead or size)):
        if look_ahead:
            block.sort(key=lambda query: -len(query[0]))
        for at in range(0, len(block), size):
            batch = block[at : at + size]
            mentions += answer(batch)
            real += sum(len(query[0]) for query in batch)
            slots += len(batch) * max(len(query[0]) for query in batch)
    seconds = time.perf_counter() - started
    print(f"{name:42} {real / seconds:8.0f} tokens/s  {seconds:7.1f} s  padding {1 - real / slots:5.1%}  {mentions} mentions", flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("documents", type=Path)
    arguments.add_argument("checkpoint", type=Path)
    arguments.add_argument("graph")
    arguments.add_argument("--schema", default="schemas/conll03.toml")
    arguments.add_argument("--documents", dest="count", type=int, default=400)
    arguments.add_argument("--threads", type=int, default=2)
    given = arguments.parse_args()
    with given.documents.open() as lines:
        texts = (json.loads(line)["text"] for line in lines)
        texts = list(itertools.islice((text for text in texts if text and text.strip()), given.count))
    queries = Queries(given.checkpoint, given.schema)
    onnx, torch = OnnxRuntime(given.graph, given.threads), PyTorch(given.checkpoint, given.threads)
    timed("onnxruntime, batches of 32, input order", queries, texts, onnx.answer, BATCH, None)
    timed("onnxruntime, batches of 32, sorted", queries, texts, onnx.answer, BATCH, 4096)
    timed("transformers, batches of 32, input order", queries, texts, torch.answer, BATCH, None)
    timed("transformers, batches of 32, sorted", queries, texts, torch.answer, BATCH, 4096)
    timed("all pairs, one query at a time (50 texts)", queries, texts[:50], torch.reference, 1, None)


if __name__ == "__main__":
    main()
