"""Received attention on a GPU by the Triton kernels of ``fused_kernels``: O(tokens) memory, forward and backward."""

import math
from typing import Any

import torch
from torch import Tensor

from .fused_kernels import INTERPRETED, key_gradients, log_sums, query_gradients, sums_of_logs
from .visibility import Visibility

BYTES = 1 << 15
"""Of the block of queries or keys that a program holds; with two blocks of the other on their way, 97 KB on the chip.

The launches name what a program owns, and meets at once, where numbers have 16 bits (where they have 32, 64 at most):
of what was tried on an H200 at head_dim 64, 128 and 256 the best, or near it (docs/lab/pooling.md).
"""

_LOG2_E = math.log2(math.e)


@torch.compiler.disable  # type: ignore[untyped-decorator]
def fused(
    query: Tensor, key: Tensor, visibility: Visibility, factor: Tensor, scale: float, softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:  # fmt: skip
    """The sum over heads and queries of log(1 + K_j a): [batch, tokens], float32.

    Args:
        query: [batch, heads, tokens, head_dim], on a GPU, or on any device where Triton interprets; float64 is worked
            on as float32.
        key: [batch, kv_heads, tokens, head_dim].
        visibility: Which keys a query may see.
        factor: K_j, [batch, tokens], 0 where the query is padding.
        scale: Multiplies the logits.
        softcap: Logits become softcap * tanh(logits / softcap).
        sinks: [heads], logits that take probability and are no token.

    Raises:
        ValueError: The tensors are not on a GPU.
    """
    if not (query.is_cuda or INTERPRETED):
        raise ValueError(f"backend is 'triton' and the tensors are on {query.device}; wanted a GPU, or backend 'auto'")
    if query.dtype == torch.float64:
        query, key = query.float(), key.float()
    found: Tensor = _Fused.apply(query, key, sinks, factor, visibility, scale, softcap)  # type: ignore[no-untyped-call]
    return found


class _Fused(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, sinks: Tensor | None, factor: Tensor, visibility: Visibility,
        scale: float, softcap: float | None,
    ) -> Tensor:  # fmt: skip
        work = _Work(query, key, visibility, scale, softcap)
        shift = torch.zeros(query.shape[:3], device=query.device)
        received = torch.zeros_like(shift)
        column = None if sinks is None else sinks.float() * _LOG2_E
        work.launch(log_sums, query.shape[1], (128, 64), sinks=column, log_sum=shift)
        shift -= factor.log2()[:, None]
        work.launch(sums_of_logs, query.shape[1], (128, 64), shift=shift, received=received)
        ctx.save_for_backward(query, key, sinks, factor, shift)
        ctx.rest = visibility, scale, softcap
        return received.sum(1) / _LOG2_E

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, sinks, factor, shift = ctx.saved_tensors
        visibility, scale, softcap = ctx.rest
        work = _Work(query, key, visibility, scale, softcap)
        pull = torch.zeros_like(shift)
        d_query, d_key = (torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in (query, key))
        shared = {"shift": shift, "wanted": gradient.contiguous(), "pull": pull, "slope": scale}
        work.launch(query_gradients, query.shape[1], (64, 64), factor=factor, d_query=d_query, **shared)
        work.launch(key_gradients, key.shape[1], (64, 128), d_key=d_key, **shared)
        d_sinks = None
        if sinks is not None:
            shares = torch.exp2(sinks.float()[:, None] * _LOG2_E - shift)  # K times the probability of the sink
            d_sinks = -(shares * pull).sum((0, 2)).to(sinks.dtype)
        return d_query, d_key, d_sinks, None, None, None, None


class _Work:
    """What the launches share."""

    def __init__(self, query: Tensor, key: Tensor, visibility: Visibility, scale: float, softcap: float | None) -> None:
        query, key = (x if x.stride(-1) == 1 else x.contiguous() for x in (query, key))
        batch, heads, tokens, head_dim = query.shape
        lanes = max(16, 1 << (head_dim - 1).bit_length())
        self._query, self._texts, self._longest = query, batch, tokens
        self._most = min(256 // query.element_size(), max(16, BYTES // (lanes * query.element_size())))
        spans = None
        if visibility.borders is not None:
            spans = _spans_of_row(visibility.borders)
            self._texts, self._longest = len(spans), int((spans[:, 2] - spans[:, 1]).max())
        elif visibility.padded:
            spans = _spans_of_valid(visibility.valid)
        window = visibility.window
        self._arguments: dict[str, Any] = {
            "query": query,
            "key": key,
            "spans": spans,
            "tokens": tokens,
            "head_dim": head_dim,
            "group": heads // key.shape[1],
            "scale": scale * _LOG2_E if softcap is None else scale / softcap,
            "cap": None if softcap is None else softcap * _LOG2_E,
            "window": None if window is None or window >= tokens else window,
            "causal": visibility.causal,
            "lanes": lanes,
            "num_warps": 4,
            "num_stages": 2,
            **dict(zip(("query_text", "query_head", "query_token"), query.stride(), strict=False)),
            **dict(zip(("key_text", "key_head", "key_token"), key.stride(), strict=False)),
            **_masks(visibility),
        }

    def launch(self, kernel: Any, heads: int, tile: tuple[int, int], **arguments: Any) -> None:
        """A program for each block of rows of each head of each text."""
        rows, columns = (min(self._most, wanted) for wanted in tile)
        grid = (-(-self._longest // rows), heads, self._texts)
        with torch.cuda.device_of(self._query):  # type: ignore[no-untyped-call]
            kernel[grid](**self._arguments, **arguments, rows=rows, columns=columns)


def _masks(visibility: Visibility) -> dict[str, Any]:
    """As the kernels read them, which know no booleans."""
    matrix, valid, strides = visibility.matrix, None, (0, 0, 0)
    if visibility.padded:
        valid = visibility.valid.contiguous().view(torch.uint8)
    if matrix is not None:
        matrix = matrix.view(torch.uint8) if matrix.dtype == torch.bool else matrix
        of_text, of_query, of_key = matrix.stride()
        strides = (of_text if len(matrix) > 1 else 0, of_query, of_key)
    names = ("matrix_text", "matrix_query", "matrix_key")
    return {"valid": valid, "matrix": matrix, "lowest": visibility.lowest, **dict(zip(names, strides, strict=True))}


def _spans_of_row(borders: Tensor) -> Tensor:
    return torch.stack([torch.zeros_like(borders[1:]), borders[:-1], borders[1:]], 1).int()


def _spans_of_valid(valid: Tensor) -> Tensor:
    """Padding before and behind a text is not worked on; a row that is all padding spans nothing."""
    text, place = (torch.arange(size, device=valid.device) for size in valid.shape)
    begin = torch.where(valid, place, valid.shape[1]).amin(1)
    end = torch.where(valid, place + 1, 0).amax(1)
    return torch.stack([text, begin, end], 1).int()
