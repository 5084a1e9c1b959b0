"""Received attention: the weight that anchor-token-aware pooling gives each token.

For key i, J(i) are the valid queries that may see i, and K_j is the number of keys that query j may see:

    w_i = (1 / |J(i)|) * sum_h sum_{j in J(i)} log(1 + K_j a^h_{j->i})

With full bidirectional attention this is the reading of Pan et al. (ACL 2025, arXiv:2509.00842), section 3, up to a
constant that cancels when the weights are normalised; the mean over J(i) makes it right for causal models too, where
the plain sum is drowned by the first token, which every query sees.
"""

import math
import warnings
from contextlib import nullcontext
from functools import cache
from itertools import pairwise
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from .blockwise import blockwise
from .visibility import Visibility

Backend = Literal["auto", "reference", "blockwise", "triton"]
Form = Literal["received", "smoothed", "paper"]

_HEAD_DIM, _CAPABILITY = 256, (8, 0)
"""What the kernels were tried, and compiled, for."""

_TEXTS = 65_535
"""So many blocks a GPU's grid has along the axis of texts."""


def received_attention(
    query: Tensor,
    key: Tensor,
    *,
    attention_mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    cu_seqlens: Tensor | None = None,
    excluded: Tensor | None = None,
    form: Form = "received",
    prior: float = 2.0,
    backend: Backend = "auto",
    detach: bool = False,
) -> Tensor:
    """Weights of the tokens by the attention that they receive in one layer.

    Args:
        query: [batch, heads, tokens, head_dim].
        key: [batch, kv_heads, tokens, head_dim]; heads is a multiple of kv_heads.
        attention_mask: [batch, tokens], padding on either side: whole numbers or boolean, 1 for valid tokens; floating
            is additive, 0 for valid tokens and minus infinity or the dtype's lowest value for padding. Or [batch or 1,
            1, tokens or 1, tokens], boolean (True: may see) or additive: the lowest value hides, any other is added to
            the logits; a token is valid where it may see itself.
        causal: Whether a query sees only itself and what is before it.
        scale: Multiplies the logits; head_dim ** -0.5 by default.
        window: A query sees only what is less than so many tokens away; everything by default.
        softcap: Logits become softcap * tanh(logits / softcap).
        sinks: [heads], logits of attention sinks: they take probability and are no token.
        cu_seqlens: [texts + 1], where the texts of one long row begin and end (flattened inputs, batch 1); no text sees
            another.
        excluded: [batch, tokens], True for tokens that get weight 0 and still attend (a prompt).
        form: "received", the formula above. "smoothed": as if ``prior`` more queries had attended evenly, which
            steadies the weights of late causal tokens; and a state that has seen no token but its own, as a causal
            text's first, weighs nothing unless the text has no other. "paper": K is the number of valid tokens for each
            query, and the sum is not divided by |J(i)|.
        prior: Of the form "smoothed".
        backend: "reference", the definition, which keeps [batch, heads, tokens, tokens]; "blockwise", the same in
            O(tokens x block) memory; "triton", the same in O(tokens) memory, on a GPU; "auto": triton for numbers of
            16 bits and a head_dim to 256 on an Nvidia GPU from Ampere on that runs it, otherwise blockwise, and the
            reference while a model is exported.
        detach: Whether the weights are constants to the optimiser.

    Returns:
        [batch, tokens], float32: 0 on padding and excluded tokens, and in rows that are all padding. It can be
        differentiated once with respect to query, key and sinks.

    Raises:
        ValueError: A shape, the form or the backend is another one, or triton is wanted where it does not run.
    """
    for name, value, known in (("form", form, get_args(Form)), ("backend", backend, get_args(Backend))):
        if value not in known:
            raise ValueError(f"{name} is {value!r}; wanted one of {', '.join(known)}")
    if not torch.compiler.is_exporting():  # there, a comparison would freeze a size
        _check_shapes(query, key, sinks, excluded)
        _check_numbers(window, softcap, prior)
        if attention_mask is not None:
            _check_mask(attention_mask, query.shape[0], query.shape[2])
        if cu_seqlens is not None:
            _check_borders(cu_seqlens, query, attention_mask)
    if detach:
        query, key, sinks = query.detach(), key.detach(), None if sinks is None else sinks.detach()
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    exporting = torch.compiler.is_exporting()
    number = query.shape[0] if cu_seqlens is None else len(cu_seqlens) - 1
    wanted = not exporting and (backend == "triton" or (backend == "auto" and _is_for_kernels(query, number)))
    fused = _fused() if wanted else None
    function = fused or (_reference if backend == "reference" or exporting else blockwise)

    def weights_of(query: Tensor, key: Tensor, mask: Tensor | None, borders: Tensor | None = None) -> Tensor:
        visibility = Visibility(mask, query.shape[0], query.shape[2], causal, window, query.device, borders)
        factor, added, times = _terms(visibility, form, prior, query.shape[1])
        if mask is not None:  # whatever a kernel leaves there, also what is no number
            padding = ~visibility.valid[:, None, :, None]
            query, key = query.masked_fill(padding, 0), key.masked_fill(padding, 0)
        return (function(query, key, visibility, factor, scale, softcap, sinks) + added) * times

    if cu_seqlens is None or fused:
        weights = weights_of(query, key, attention_mask, cu_seqlens)
    else:
        texts = [slice(begin, end) for begin, end in pairwise(cu_seqlens.tolist())]
        weights = torch.cat([weights_of(query[:, :, text], key[:, :, text], None) for text in texts], dim=1)
    return weights if excluded is None else weights.masked_fill(excluded.bool(), 0)


def _check_shapes(query: Tensor, key: Tensor, sinks: Tensor | None, excluded: Tensor | None) -> None:
    if query.dim() != 4 or key.dim() != 4:
        raise ValueError(
            f"query is {list(query.shape)}, key {list(key.shape)}; wanted [batch, heads, tokens, head_dim]"
        )
    batch, heads, tokens, size = query.shape
    if key.shape[1] == 0 or heads % key.shape[1]:
        raise ValueError(f"{heads} heads are no multiple of {key.shape[1]} kv_heads")
    wanted = [batch, key.shape[1], tokens, size]
    if list(key.shape) != wanted or key.dtype != query.dtype:
        raise ValueError(f"key is {list(key.shape)} of {key.dtype}; wanted {wanted} of {query.dtype}, as query is")
    for name, given, shape in (("sinks", sinks, [heads]), ("excluded", excluded, [batch, tokens])):
        if given is not None and list(given.shape) != shape:
            raise ValueError(f"{name} is {list(given.shape)}; wanted {shape}")


def _check_mask(mask: Tensor, batch: int, tokens: int) -> None:
    shape = list(mask.shape)
    is_row = shape == [batch, tokens]
    is_matrix = len(shape) == 4 and shape[0] in (1, batch) and shape[1] == 1 and shape[2] in (1, tokens)
    if not (is_row or (is_matrix and shape[3] >= tokens)):  # a cache of fixed size has more keys
        raise ValueError(f"attention_mask is {shape}; wanted [{batch}, {tokens}] or [{batch}, 1, {tokens}, {tokens}]")
    if is_row and mask.is_floating_point() and bool((mask > 0).any()):
        raise ValueError("attention_mask is floating, so additive, and above 0; wanted 0 and minus infinity, or bool")


def _check_numbers(window: int | None, softcap: float | None, prior: float) -> None:
    if window is not None and (not isinstance(window, int) or window < 1):
        raise ValueError(f"window is {window!r}; wanted a whole number from 1 on, or None")
    if softcap is not None and not softcap > 0:
        raise ValueError(f"softcap is {softcap!r}; wanted a number above 0, or None")
    if not 0 <= prior < math.inf:
        raise ValueError(f"prior is {prior!r}; wanted a number from 0 on")


def _check_borders(cu_seqlens: Tensor, query: Tensor, attention_mask: Tensor | None) -> None:
    if attention_mask is not None or query.shape[0] != 1:
        raise ValueError("cu_seqlens is for one row of texts without padding: batch 1 and no attention_mask")
    if not isinstance(cu_seqlens, Tensor) or cu_seqlens.dim() != 1 or cu_seqlens.is_floating_point():
        raise ValueError("cu_seqlens is no row of whole numbers; wanted a tensor [texts + 1]")
    borders = cu_seqlens.tolist()
    if len(borders) < 2 or (borders[0], borders[-1]) != (0, query.shape[2]) or borders != sorted(borders):
        raise ValueError(f"cu_seqlens is {borders}; wanted 0, the ends of the texts, and {query.shape[2]} at last")


def _fused() -> Any:
    """The Triton kernels; imported late, because triton takes a second."""
    try:
        from .fused import fused
    except ImportError as error:
        raise ValueError("the kernels of backend 'triton' need triton 3.3 or newer; install it") from error
    return fused


def _is_for_kernels(query: Tensor, texts: int) -> bool:
    """Whether they are faster there, as far as that was measured, and run."""
    if not (query.is_cuda and query.dtype in (torch.float16, torch.bfloat16)):
        return False
    tokens, head_dim = query.shape[2:]
    return tokens > 0 and texts <= _TEXTS and head_dim <= _HEAD_DIM and _runs_kernels(query.device)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _runs_kernels(device: torch.device) -> bool:
    return _tried(device)  # a compiler would see through the cache itself


@cache
def _tried(device: torch.device) -> bool:
    """Whether a GPU has all that the kernels need: by a first, small launch.

    Where there is no triton, or no C compiler, which triton wants, a model that worked without them still works. What
    may be otherwise the next time, as the memory that is left, is raised and not remembered.
    """
    if torch.version.hip is not None or torch.cuda.get_device_capability(device) < _CAPABILITY:
        return False
    try:
        probe = torch.zeros(1, 1, 16, 16, dtype=torch.float16, device=device)
        received_attention(probe, probe, backend="triton")
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever triton or its compiler says; there is another way
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = (lines or [type(error).__name__])[0]
        warnings.warn(f"received attention is computed without its kernels on {device}: {reason}", stacklevel=1)
        return False
    return True


def of_probabilities(probability: Tensor, visibility: Visibility, form: Form, prior: float) -> Tensor:
    """The weights where a model hands its probabilities out, [batch, tokens].

    Args:
        probability: [batch, heads, tokens, tokens], before dropout.
        visibility: Which keys a query may see.
        form, prior: As above.
    """
    factor, added, times = _terms(visibility, form, prior, probability.shape[1])
    return (_summed(probability, factor) + added) * times


def _terms(visibility: Visibility, form: Form, prior: float, heads: int) -> tuple[Tensor, float, Tensor]:
    """What attention is multiplied by, 0 where the query is padding; then what is added to the sum of a key, and what
    that is multiplied by, 0 where the key is padding: [batch, tokens], a number, [batch, tokens].
    """
    valid = visibility.valid.float()
    if form == "paper":
        return valid * visibility.sizes(), 0.0, valid
    keys_seen, heard = visibility.counts()
    if form == "smoothed":
        even = heads * math.log(2)  # log(1 + K a) of a query that attends to every key alike, over the heads
        has_context = valid * (keys_seen > 1)
        if visibility.borders is None:  # a text in which no token has seen another
            has_context = torch.where(has_context.any(1, keepdim=True), has_context, valid)
        else:
            has_context = torch.maximum(has_context, valid * (visibility.sizes() == 1))
        return keys_seen, prior * even, has_context / (heard + prior)
    return keys_seen, 0.0, valid / heard.clamp(min=1)


def _summed(probability: Tensor, factor: Tensor) -> Tensor:
    """sum_h sum_j log(1 + factor_j a^h_{j->i}): the definition. [batch, heads, queries, keys] -> [batch, keys]."""
    return torch.log1p(factor[:, None, :, None] * probability.float()).sum((1, 2))


def _reference(
    query: Tensor, key: Tensor, visibility: Visibility, factor: Tensor, scale: float, softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:  # fmt: skip
    """As ``blockwise``, all at once."""
    batch, heads, tokens, _ = query.shape
    visible = visibility.rows(0, tokens)[:, None]
    exporting = torch.compiler.is_exporting()
    with nullcontext() if exporting else torch.autocast(query.device.type, enabled=False):
        logits = (query @ key.repeat_interleave(heads // key.shape[1], dim=1).transpose(-1, -2)).float() * scale
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    added = visibility.added(0, tokens)
    if added is not None:
        logits = logits + added[:, None].masked_fill(~visible, 0)
    logits = logits.masked_fill(~visible, torch.finfo(torch.float32).min)
    if sinks is not None:
        column = sinks.float().view(1, heads, 1, 1).expand(batch, heads, tokens, 1)
        logits = torch.cat([logits, column], dim=-1)
    return _summed(torch.softmax(logits, dim=-1)[..., :tokens], factor)
