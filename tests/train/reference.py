#!/usr/bin/env python3
"""Prints the expected figures of the tests of `quarry train`, computed by PyTorch and `transformers` without our code.

    python3 tests/train/reference.py      with PyTorch 2.11 and transformers

It prints, in the order of the tests that quote them:

    schedule    rates of one-cycle, linear and polynomial decay over ten steps, and the first beta under one-cycle
    optimizer   the weights after three steps of AdamW and SGD, with constant and with changing momentum
    loss        number of candidates, start, end and match loss and their weighted mean, for every kind of candidates
"""

import torch
from torch.nn import functional
from transformers import BertConfig, BertModel, get_linear_schedule_with_warmup, get_polynomial_decay_schedule_with_warmup

STEPS = 10


def figures(values):
    return "[" + ", ".join(f"{value:.6f}" for value in values) + "]"


def course(lr, make, read):
    """The value of `read` before each step, with the scheduler from `make`."""
    optimizer = torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = make(optimizer)
    seen = []
    for _ in range(STEPS):
        seen.append(read(optimizer.param_groups[0]))
        optimizer.step()
        scheduler.step()
    return seen


def schedules():
    def one_cycle(warmup):
        return lambda optimizer: torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=1.0, total_steps=STEPS, pct_start=warmup / STEPS, anneal_strategy="linear", final_div_factor=1e4
        )

    rate, beta = (lambda group: group["lr"]), (lambda group: group["betas"][0])
    print("schedule: momentum of onecycle, warm-up 4", figures(course(1.0, one_cycle(4), beta)))
    print("schedule: momentum of onecycle, warm-up 0", figures(course(1.0, one_cycle(0), beta)))
    print("schedule: linear, warm-up 2   ", figures(course(1.0, lambda one: get_linear_schedule_with_warmup(one, 2, STEPS), rate)))
    decay = lambda one: get_polynomial_decay_schedule_with_warmup(one, 0, STEPS, lr_end=0.2, power=1.0)
    print("schedule: polydecay, warm-up 0", figures(course(1.0, decay, rate)))
    print("schedule: onecycle, warm-up 4 ", figures(course(1.0, one_cycle(4), rate)))


def three_steps(make, set_momentum, momenta):
    """Three steps down Σ(k·x)² from [1, -2, 0.5]."""
    weight = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    optimizer = make([weight])
    for momentum in momenta:
        if momentum is not None:
            set_momentum(optimizer.param_groups[0], momentum)
        optimizer.zero_grad()
        (weight * torch.tensor([1.0, 2.0, 3.0])).square().sum().backward()
        optimizer.step()
    return figures(weight.tolist())


def optimizers():
    def adam(second):
        make = lambda weights: torch.optim.AdamW(weights, lr=0.1, betas=(0.9, second), eps=1e-8, weight_decay=0.01)
        return make, lambda group, momentum: group.update(betas=(momentum, second))

    sgd = lambda weights: torch.optim.SGD(weights, lr=0.01, momentum=0.9, weight_decay=0.01)
    kinds = {"AdamW": adam(0.98), "TorchAdam": adam(0.999), "Sgd": (sgd, lambda group, momentum: group.update(momentum=momentum))}
    for name, (make, set_momentum) in kinds.items():
        print(f"optimizer: {name}", *(three_steps(make, set_momentum, momenta) for momenta in ([None] * 3, [0.85, 0.9, 0.95])))


def made_up(shapes):
    """Weights by the tests' rule: one sequence over the sorted names, so that both sides have the same model."""
    state, weights = 1, {}
    for name in sorted(shapes):
        values = []
        for _ in range(shapes[name].numel()):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            values.append(((state >> 40) / 2**24 - 0.5) * 0.4 + (1.0 if name.endswith("LayerNorm.weight") else 0.0))
        weights[name] = torch.tensor(values).view(shapes[name])
    return weights


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 32}
        self.bert = BertModel(BertConfig(max_position_embeddings=24, **sizes), add_pooling_layer=False)
        self.start_outputs, self.end_outputs = torch.nn.Linear(8, 1), torch.nn.Linear(8, 1)
        self.span_embedding = torch.nn.ModuleDict({"classifier1": torch.nn.Linear(16, 12), "classifier2": torch.nn.Linear(12, 1)})
        weights = made_up({name: weight.shape for name, weight in self.named_parameters()})
        weights["start_outputs.bias"] -= 0.3
        weights["end_outputs.bias"] -= 0.25
        self.load_state_dict(weights)
        self.eval()

    def forward(self, ids, types, attended):
        """Start and end logits [rows, tokens], match logits of all pairs [rows, tokens, tokens]."""
        hidden = self.bert(ids, attention_mask=attended, token_type_ids=types).last_hidden_state
        tokens = hidden.shape[1]
        pairs = torch.cat([hidden.unsqueeze(2).expand(-1, -1, tokens, -1), hidden.unsqueeze(1).expand(-1, tokens, -1, -1)], -1)
        match = self.span_embedding["classifier2"](functional.gelu(self.span_embedding["classifier1"](pairs)))
        return self.start_outputs(hidden).squeeze(-1), self.end_outputs(hidden).squeeze(-1), match.squeeze(-1)


def batch():
    """Two queries of ten and seven tokens, by the tests' rule."""
    ids, types, attended, start_mask, end_mask = [torch.zeros(2, 10, dtype=torch.long) for _ in range(5)]
    for row, length in ((0, 10), (1, 7)):
        for token in range(length):
            context = 4 <= token < length - 1
            ids[row, token] = (row * 7 + token * 3) % 32
            attended[row, token], types[row, token] = 1, token >= 4
            start_mask[row, token], end_mask[row, token] = context and token % 3 != 2, context and token % 3 != 1
    return ids, types, attended, start_mask.bool(), end_mask.bool()


def mean_over(mask, logits, gold):
    each = functional.binary_cross_entropy_with_logits(logits, gold.float(), reduction="none")
    return (each * mask).sum() / mask.sum()


def pairs(starts, ends):
    return starts.unsqueeze(2) & ends.unsqueeze(1)


@torch.no_grad()
def losses():
    model = Model()
    ids, types, attended, start_mask, end_mask = batch()
    starts, ends, spans = torch.zeros(2, 10).bool(), torch.zeros(2, 10).bool(), torch.zeros(2, 10, 10).bool()
    for row, start, end in ((0, 4, 5), (0, 6, 8), (0, 4, 8), (1, 4, 5)):
        starts[row, start], ends[row, end], spans[row, start, end] = True, True, True
    start_logits, end_logits, match_logits = model(ids, types, attended)
    start_loss, end_loss = mean_over(start_mask, start_logits, starts), mean_over(end_mask, end_logits, ends)
    allowed = pairs(start_mask, end_mask).triu()
    gold, predicted = pairs(starts, ends), pairs(start_logits > 0, end_logits > 0)
    torch.manual_seed(7)
    random = torch.rand(allowed.shape) < 0.5
    kinds = {"All": allowed | True, "Gold": gold, "PredAndGold": predicted | gold, "PredGoldRandom": predicted | gold | random}
    for name, chosen in kinds.items():
        candidates = allowed & chosen
        match_loss = mean_over(candidates, match_logits, spans)
        total = (start_loss + end_loss + 0.1 * match_loss) / 2.1
        print(f"loss: {name}", int(candidates.sum()), figures([start_loss, end_loss, match_loss]), f"{total:.6f}")


if __name__ == "__main__":
    schedules()
    optimizers()
    losses()
