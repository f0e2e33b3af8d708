"""BERT-MRC in plain PyTorch, with scaled-dot-product attention: used by gpu.py and train.py.

Its parameters have the names of the reference implementation's checkpoints, so that those load without renaming.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

PARTS = "query", "key", "value"


class Layer(nn.Module):
    def __init__(self, config, dropout):
        super().__init__()
        hidden, inner = config["hidden_size"], config["intermediate_size"]
        parts = nn.ModuleDict({part: nn.Linear(hidden, hidden) for part in PARTS})
        self.heads = config["num_attention_heads"]
        self.attention = nn.ModuleDict({"self": parts, "output": output(hidden, hidden, config)})
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(hidden, inner)})
        self.output = output(inner, hidden, config)
        self.dropout = nn.Dropout(dropout)

    def forward(self, hidden, mask):
        rows, tokens, width = hidden.shape
        parts = [self.attention["self"][part] for part in PARTS]
        weight, bias = torch.cat([part.weight for part in parts]), torch.cat([part.bias for part in parts])
        joined = F.linear(hidden, weight, bias).view(rows, tokens, 3, self.heads, width // self.heads)
        query, key, value = joined.permute(2, 0, 3, 1, 4).unbind(0)
        share = self.dropout.p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=share)
        hidden = self.add(self.attention["output"], mixed.transpose(1, 2).reshape(rows, tokens, width), hidden)
        return self.add(self.output, F.gelu(self.intermediate["dense"](hidden)), hidden)

    def add(self, part, value, hidden):
        return part["LayerNorm"](self.dropout(part["dense"](value)) + hidden)


def output(inputs, hidden, config):
    return nn.ModuleDict({"dense": nn.Linear(inputs, hidden), "LayerNorm": norm(config)})


def norm(config):
    return nn.LayerNorm(config["hidden_size"], config.get("layer_norm_eps", 1e-12))


class BertMrc(nn.Module):
    """The encoder, a start and an end logit for every token, a match logit for a pair of them."""

    def __init__(self, config, dropout=0.0, head_dropout=0.0):
        super().__init__()
        hidden, width = config["hidden_size"], config["classifier_intermediate_hidden_size"]
        sizes = {"word": config["vocab_size"], "position": config["max_position_embeddings"], "token_type": config["type_vocab_size"]}
        tables = {f"{name}_embeddings": nn.Embedding(size, hidden) for name, size in sizes.items()}
        layers = nn.ModuleList(Layer(config, dropout) for _ in range(config["num_hidden_layers"]))
        embeddings = nn.ModuleDict({**tables, "LayerNorm": norm(config)})
        self.bert = nn.ModuleDict({"embeddings": embeddings, "encoder": nn.ModuleDict({"layer": layers})})
        self.start_outputs, self.end_outputs = nn.Linear(hidden, 1), nn.Linear(hidden, 1)
        heads = {"classifier1": nn.Linear(2 * hidden, width), "classifier2": nn.Linear(width, 1)}
        self.span_embedding = nn.ModuleDict(heads)
        self.dropout, self.head_dropout = nn.Dropout(dropout), nn.Dropout(head_dropout)

    def encode(self, ids, types, mask):
        """Token vectors [rows, tokens, hidden]; `mask` is bool [rows, 1, 1, tokens], or None if there is no padding."""
        tables = self.bert["embeddings"]
        places = torch.arange(ids.shape[1], device=ids.device)
        hidden = tables["word_embeddings"](ids) + tables["token_type_embeddings"](types) + tables["position_embeddings"](places)
        hidden = self.dropout(tables["LayerNorm"](hidden))
        for layer in self.bert["encoder"]["layer"]:
            hidden = layer(hidden, mask)
        return hidden

    def boundaries(self, hidden):
        """Start and end logits, float32 [rows, tokens] each."""
        return self.start_outputs(hidden).squeeze(-1).float(), self.end_outputs(hidden).squeeze(-1).float()

    def match(self, hidden, index):
        """Match logits, float32 [k], of candidates [k, 3]: row, start, end."""
        row, start, end = index.unbind(1)
        pairs = torch.cat([hidden[row, start], hidden[row, end]], -1)
        inner = self.head_dropout(F.gelu(self.span_embedding["classifier1"](pairs)))
        return self.span_embedding["classifier2"](inner).squeeze(-1).float()


def pairs(starts, ends):
    """Two bool [rows, tokens] to bool [rows, tokens, tokens]: pairs of a start and an end that is not before it."""
    return torch.triu(starts.unsqueeze(2) & ends.unsqueeze(1))


def read(folder):
    """Configuration and tensors of a folder with config.json and model.safetensors, under the reference implementation's names."""
    folder = Path(folder)
    config = {"type_vocab_size": 2, **json.loads((folder / "config.json").read_text())}
    tensors = {}
    for name, value in load_file(folder / "model.safetensors").items():
        name = name.replace(".gamma", ".weight").replace(".beta", ".bias")
        if name.startswith(("embeddings.", "encoder.", "pooler.")):
            name = f"bert.{name}"
        if not name.startswith(("bert.pooler.", "cls.")) and not name.endswith("position_ids"):
            tensors[name] = value.float()
    return config, tensors
