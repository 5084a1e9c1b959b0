"""Triton's kernels in tests: interpreted on the CPU, or compiled where TRITON_INTERPRET is 0 and there is a GPU."""

import os
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from finegrade.models.portable.received_attention import received_attention

INTERPRETED = os.environ["TRITON_INTERPRET"] == "1"  # conftest.py sets it before anything can import triton


def by_triton(query: Tensor, key: Tensor, **options: Any) -> Tensor:
    """``received_attention`` by the kernels; tensors go where these run, and the weights come back."""
    device = "cpu" if INTERPRETED else "cuda"
    there = {name: x.to(device) if isinstance(x, Tensor) else x for name, x in options.items()}
    return received_attention(query.to(device), key.to(device), **{"backend": "triton", **there}).cpu()


def prepare_triton(patch: pytest.MonkeyPatch) -> None:
    """Skips where triton is not; teaches its interpreter bfloat16, which it multiplies as the bits of a uint16."""
    pytest.importorskip("triton", reason="triton is not installed")
    if not INTERPRETED:
        return
    from triton.runtime.interpreter import InterpreterBuilder, TensorHandle, tl

    own = InterpreterBuilder.create_dot

    def widened(x: Any) -> Any:
        if x.dtype != tl.bfloat16:
            return x
        return TensorHandle((x.data.astype(np.uint32) << 16).view(np.float32), tl.float32)

    patch.setattr(InterpreterBuilder, "create_dot", lambda self, a, b, *rest: own(self, widened(a), widened(b), *rest))
