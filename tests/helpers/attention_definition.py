"""Anchor pooling as docs/method.md defines it: plain loops over float64, for tests to hold the fast forms against."""

import math
from collections.abc import Sequence

Grid = Sequence[Sequence[float]]
Rule = Sequence[Sequence[bool]]


def probabilities(
    query: Sequence[Grid],
    key: Sequence[Grid],
    visible: Rule,
    scale: float,
    softcap: float | None = None,
    sinks: Sequence[float] | None = None,
) -> list[list[list[float]]]:
    """a[h][j][i] of one text: query [heads][tokens][dim], key [kv_heads][tokens][dim], visible [query][key]."""
    tokens, group = len(visible), len(query) // len(key)
    result = []
    for h, own in enumerate(query):
        rows = []
        for j in range(tokens):
            logits = {}
            for i in range(tokens):
                if visible[j][i]:
                    logit = scale * sum(x * y for x, y in zip(own[j], key[h // group][i], strict=True))
                    logits[i] = logit if softcap is None else softcap * math.tanh(logit / softcap)
            highest = max([*logits.values(), *([sinks[h]] if sinks else [])], default=0.0)
            total = sum(math.exp(logit - highest) for logit in logits.values())
            total += math.exp(sinks[h] - highest) if sinks else 0.0
            rows.append([math.exp(logits[i] - highest) / total if i in logits else 0.0 for i in range(tokens)])
        result.append(rows)
    return result


def received(attention: Sequence[Grid], visible: Rule, valid: Sequence[bool]) -> list[float]:
    """w_i = (1/|J(i)|) sum_h sum_{j in J(i)} log(1 + K_j a^h_{j->i}); 0 on tokens that are not valid."""
    tokens = len(valid)
    seen = [sum(visible[j]) for j in range(tokens)]
    weights = []
    for i in range(tokens):
        hearers = [j for j in range(tokens) if valid[j] and visible[j][i]]
        total = sum(math.log(1 + seen[j] * head[j][i]) for head in attention for j in hearers)
        weights.append(total / len(hearers) if hearers and valid[i] else 0.0)
    return weights


def smoothed(attention: Sequence[Grid], visible: Rule, valid: Sequence[bool], prior: float) -> list[float]:
    """w_i = (sum_h sum_{j in J(i)} log(1 + K_j a^h_{j->i}) + prior H log 2) / (|J(i)| + prior); 0 where K_i is 1."""
    weights, tokens = [], [i for i, ok in enumerate(valid) if ok]
    for i, weight in enumerate(received(attention, visible, valid)):
        hearers = sum(1 for j in tokens if visible[j][i])
        even = prior * len(attention) * math.log(2)
        counts = valid[i] and (tokens == [i] or sum(visible[i]) > 1)
        weights.append((weight * hearers + even) / (hearers + prior) if counts else 0.0)
    return weights


def paper_sum(attention: Sequence[Grid], visible: Rule, valid: Sequence[bool]) -> list[float]:
    """w_i = sum_h sum_j log(1 + K a^h_{j->i}) over the valid queries j that may see i, K the number of valid tokens."""
    tokens, count = len(valid), sum(valid)
    return [
        sum(math.log(1 + count * head[j][i]) for head in attention for j in range(tokens) if valid[j] and visible[j][i])
        if valid[i]
        else 0.0
        for i in range(tokens)
    ]


def rule(valid: Sequence[bool], causal: bool, window: int | None = None) -> list[list[bool]]:
    """Which key a query may see: both valid, not later where causal, and less than ``window`` back."""
    tokens = range(len(valid))
    return [
        [
            bool(valid[j] and valid[i] and (not causal or i <= j) and (window is None or abs(j - i) < window))
            for i in tokens
        ]
        for j in tokens
    ]
