"""Texts to queries to batches in plain Python; used by compare.py, gpu.py and train.py."""

import itertools
import json
import tomllib
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer

FRAME = 3  # [CLS] and two [SEP]


class Query(NamedTuple):
    """[CLS] question [SEP] window [SEP]."""

    ids: np.ndarray  # vocabulary ids
    context: int  # index in `ids` at which the window begins
    starts: np.ndarray  # for each id, whether a mention can begin there
    ends: np.ndarray  # for each id, whether a mention can end there
    entity_type: int  # index of the question in the schema
    offset: int  # index of the window's first token in the document


class Questions:
    """Makes the queries of a text: every question of a schema with every window."""

    def __init__(self, tokenizer, schema, window, overlap):
        self.tokenizer = Tokenizer.from_file(str(tokenizer))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        with open(schema, "rb") as file:
            self.schema = tomllib.load(file)
        self.ids = [self.tokenizer.encode(one["question"], add_special_tokens=False).ids for one in self.schema["type"]]
        self.begin, self.end = self.tokenizer.token_to_id("[CLS]"), self.tokenizer.token_to_id("[SEP]")
        self.window, self.overlap = window, overlap

    def longest(self, window):
        """Tokens of the longest query with `window` tokens of context."""
        return max(map(len, self.ids)) + window + FRAME

    def encode(self, text):
        return self.tokenizer.encode(text, add_special_tokens=False)

    def ask(self, encoding):
        """Every query about a text: window by window, type by type. A window ends after a fixed number of tokens."""
        ids, words = np.array(encoding.ids, np.int64), np.array(encoding.word_ids, np.int64)
        if not len(ids):
            return
        edges = words[1:] != words[:-1]
        first, last = np.concatenate([[True], edges]), np.concatenate([edges, [True]])
        for at in range(0, max(1, len(ids) - self.overlap), self.window - self.overlap):
            part = slice(at, at + self.window)
            for number, question in enumerate(self.ids):
                prefix = [self.begin, *question, self.end]
                no = np.zeros(len(prefix), bool)
                framed = [(prefix, ids, self.end), (no, first, False), (no, last, False)]
                joined, starts, ends = (np.concatenate([before, values[part], [after]]) for before, values, after in framed)
                yield Query(joined, len(prefix), starts, ends, number, at)

    def of(self, text):
        return self.ask(self.encode(text))


def padded(batch, multiple=1):
    """ids, attention, types (int64), starts, ends (bool): arrays [rows, tokens], whose tokens are a multiple of `multiple`."""
    longest = max(len(query.ids) for query in batch)
    shape = len(batch), -(-longest // multiple) * multiple
    ids, attention, types = (np.zeros(shape, np.int64) for _ in range(3))
    starts, ends = np.zeros(shape, bool), np.zeros(shape, bool)
    for row, query in enumerate(batch):
        length = len(query.ids)
        ids[row, :length], attention[row, :length], types[row, query.context : length] = query.ids, 1, 1
        starts[row, :length], ends[row, :length] = query.starts, query.ends
    return ids, attention, types, starts, ends


def tokens_of(query):
    return len(query.ids)


def by_length(queries, length=tokens_of):
    """Sorts by length, the longest first."""
    return sorted(queries, key=length, reverse=True)


def by_budget(queries, most, length=tokens_of):
    """Batches of at most `most` padded tokens, from queries sorted by length, the longest first."""
    batch = []
    for query in queries:
        if batch and (len(batch) + 1) * length(batch[0]) > most:
            yield batch
            batch = []
        batch.append(query)
    if batch:
        yield batch


def texts(path, count):
    """The first `count` texts of a file with one JSON object with `text` per line."""
    with open(path) as lines:
        found = (json.loads(line)["text"] for line in lines)
        return list(itertools.islice((text for text in found if text and text.strip()), count))
