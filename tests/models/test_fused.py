"""The Triton kernels: the other backends' law over many tiles, where they run, and that they compile for GPUs."""

import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from finegrade.models.portable import received_attention as attention
from finegrade.models.portable.received_attention import Form, received_attention
from helpers.triton_interpreter import INTERPRETED, by_triton, prepare_triton

TOKENS = 35


@pytest.fixture(scope="module")
def kernels() -> Iterator[None]:
    """Tiles of 16 x 16, so that short texts have many."""
    with pytest.MonkeyPatch.context() as patch:
        prepare_triton(patch)
        patch.setattr("finegrade.models.portable.fused.BYTES", 1)
        yield


def draw(heads: int = 2, kv_heads: int = 1, tokens: int = TOKENS, dim: int = 8) -> tuple[Tensor, Tensor]:
    """As models hand them out: [batch, heads, tokens, dim] over memory in the order of tokens, heads."""
    generator = torch.Generator().manual_seed(0)
    query = 2 * torch.randn(2, tokens, heads, dim, generator=generator)
    return query.transpose(1, 2), torch.randn(2, tokens, kv_heads, dim, generator=generator).transpose(1, 2)


def with_gradients(function: Any, tensors: list[Tensor], **options: Any) -> list[Tensor]:
    """The weights, and the gradients of query, key and, where there are any, sinks."""
    inputs = [x.detach().clone(memory_format=torch.preserve_format).requires_grad_() for x in tensors]
    if len(inputs) > 2:
        options["sinks"] = inputs[2]
    weights = function(inputs[0], inputs[1], **options)
    direction = torch.linspace(-1, 1, weights.numel()).view(weights.shape)
    return [weights, *torch.autograd.grad((weights * direction).sum(), inputs)]


def assert_same(found: list[Tensor], wanted: list[Tensor], weights: float, gradients: float) -> None:
    """Within these shares of the largest value."""
    for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
        assert (one - other).abs().max() <= (gradients if number else weights) * other.abs().max()


def padding() -> Tensor:
    """Before, behind, and within."""
    mask = torch.ones(2, TOKENS, dtype=torch.bool)
    mask[0, :18] = mask[1, 30:] = mask[1, 4:6] = False
    return mask


def matrix(texts: int) -> Tensor:
    """[texts, 1, tokens, tokens]: some of what is not later; every token sees itself."""
    seen = torch.rand(texts, 1, TOKENS, TOKENS, generator=torch.Generator().manual_seed(1)) < 0.5
    return (seen | torch.eye(TOKENS, dtype=torch.bool)).tril()


def slopes() -> Tensor:
    """An additive mask, as with ALiBi."""
    place = torch.arange(float(TOKENS))
    return (
        (place - place[:, None]).mul(0.1).expand(2, 1, -1, -1).masked_fill(~matrix(2), torch.finfo(torch.float32).min)
    )


RULES: dict[str, dict[str, Any]] = {
    "everything": {},
    "causal": {"causal": True},
    "window": {"window": 18},
    "causal window": {"causal": True, "window": 4, "attention_mask": padding()},
    "padding": {"attention_mask": padding()},
    "matrix": {"attention_mask": matrix(2)},
    "one matrix": {"attention_mask": matrix(1).expand(2, -1, -1, -1)},
    "additive": {"attention_mask": slopes()},
    "softcap": {"causal": True, "softcap": 3.0, "attention_mask": slopes().half()},
}


@pytest.mark.slow
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("with_sinks", [False, True], ids=["", "sinks"])
def test_many_tiles_agree_with_the_reference(kernels: None, rule: str, with_sinks: bool) -> None:
    tensors = [*draw(), *([torch.tensor([1.0, -torch.inf])] if with_sinks else [])]
    found = with_gradients(by_triton, tensors, **RULES[rule])
    assert_same(found, with_gradients(received_attention, tensors, backend="reference", **RULES[rule]), 1e-5, 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize("causal", [False, True])
def test_flattened_texts_agree_with_the_reference(kernels: None, causal: bool, form: Form) -> None:
    tensors = [x[:1] for x in draw(4, 2)]
    ends = torch.tensor([0, 17, 18, TOKENS], dtype=torch.int32)
    options = {"cu_seqlens": ends, "causal": causal, "window": 15, "form": form}
    found = with_gradients(by_triton, tensors, **options)
    assert_same(found, with_gradients(received_attention, tensors, backend="reference", **options), 1e-5, 1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("dim", [8, 64, 96, 128, 256])
def test_any_head_dim_and_precision(kernels: None, dim: int, dtype: torch.dtype) -> None:
    tensors = [x.to(dtype) for x in draw(tokens=20, dim=dim)]
    found = with_gradients(by_triton, tensors, causal=True)
    wanted = with_gradients(received_attention, [x.float() for x in tensors], backend="reference", causal=True)
    assert [x.dtype for x in found[1:]] == [dtype, dtype]
    weights, gradients = (2e-2, 2e-2) if dtype.itemsize == 2 else (1e-5, 1e-4)
    assert_same(found, wanted, weights, gradients)


@pytest.mark.slow
def test_nothing_of_tokens_times_tokens_is_kept(kernels: None) -> None:
    query, key = (x.requires_grad_() for x in draw(dim=2))
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):  # type: ignore[func-returns-value]
        by_triton(query, key, causal=True)
    assert kept
    assert max(kept) <= query.numel() < TOKENS * TOKENS


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore:The .grad")  # torch's own
def test_compiled_callers_step_out_for_the_kernels(kernels: None) -> None:
    tensors = list(draw(tokens=20))
    compiled = torch.compile(lambda q, k, **options: by_triton(q * 2, k, **options) * 3, backend="aot_eager")
    found = with_gradients(compiled, tensors, causal=True)
    wanted = with_gradients(lambda q, k, **options: by_triton(q * 2, k, **options) * 3, tensors, causal=True)
    assert_same(found, wanted, 1e-6, 1e-5)


@pytest.mark.parametrize("runs", [True, False])
def test_auto_takes_the_kernels_where_they_run(kernels: None, runs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    for name, place in (("triton", "fused.fused"), ("blockwise", "received_attention.blockwise")):
        monkeypatch.setattr(
            f"finegrade.models.portable.{place}", lambda q, *_, of=name: called.append(of) or q.new_zeros(1, q.shape[2])
        )
    monkeypatch.setattr("finegrade.models.portable.received_attention._is_for_kernels", lambda query, texts: runs)
    for backend in ("auto", "triton", "blockwise"):
        received_attention(*draw(), backend=backend, form="paper")
    assert called == ["triton" if runs else "blockwise", "triton", "blockwise"]


@pytest.mark.parametrize(
    ("changed", "suits"),
    [
        ({}, True),
        ({"dtype": torch.float16}, True),
        ({"dtype": torch.float32}, False),
        ({"dtype": torch.float64}, False),
        ({"is_cuda": False}, False),
        ({"shape": (2, 4, 0, 64)}, False),
        ({"shape": (2, 4, 10, 512)}, False),
        ({"texts": 65_536}, False),
    ],
    ids=str,
)
def test_what_the_kernels_are_for(changed: dict[str, Any], suits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "_runs_kernels", lambda device: True)
    texts = changed.pop("texts", 2)
    standard = {"is_cuda": True, "dtype": torch.bfloat16, "shape": torch.Size((2, 4, 10, 64)), "device": "cuda:0"}
    query: Any = types.SimpleNamespace(**standard | changed)
    assert attention._is_for_kernels(query, texts) is suits


def test_while_a_model_is_exported_nobody_looks_for_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Tensor] = []
    monkeypatch.setattr(attention, "_is_for_kernels", lambda query, texts: asked.append(query) or False)
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
    received_attention(*draw())
    assert not asked


@pytest.mark.skipif(INTERPRETED, reason="for a GPU")
def test_auto_takes_the_kernels_on_a_gpu(kernels: None, monkeypatch: pytest.MonkeyPatch) -> None:
    query, key = (x.cuda().bfloat16() for x in draw())
    wanted = received_attention(query, key, backend="triton")
    monkeypatch.setattr("finegrade.models.portable.received_attention.blockwise", None)
    attention._tried.cache_clear()
    compiled = torch.compile(lambda q, k: received_attention(q * 2, k), backend="aot_eager")
    torch.testing.assert_close(compiled(query / 2, key), wanted)  # what is around them is rounded otherwise
    assert torch.equal(received_attention(query, key), wanted)


@pytest.mark.skipif(INTERPRETED, reason="for a GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dim", [16, 64, 80, 128, 192, 256])
@pytest.mark.parametrize("causal", [False, True])
def test_the_tiles_in_use_agree_with_the_reference(dim: int, dtype: torch.dtype, causal: bool) -> None:
    tensors = [x.to(dtype) for x in draw(tokens=300, dim=dim)]
    found = with_gradients(by_triton, tensors, causal=causal)
    wanted = with_gradients(received_attention, [x.float() for x in tensors], backend="reference", causal=causal)
    weights, gradients = (2e-2, 2e-2) if dtype.itemsize == 2 else (1e-5, 1e-4)
    assert_same(found, wanted, weights, gradients)


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    attention._tried.cache_clear()
    yield
    attention._tried.cache_clear()


def failing(error: Exception) -> Any:
    def fail(*args: Any, **options: Any) -> Tensor:
        raise error

    return fail


def test_a_gpu_that_cannot_run_them_is_reported_once(untried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "received_attention", failing(RuntimeError("\nFailed to find C compiler.\nmore")))
    with pytest.warns(UserWarning, match=r"without its kernels on cpu: Failed to find C compiler\.$") as told:
        assert [attention._runs_kernels(torch.device("cpu")) for _ in range(2)] == [False, False]
    assert len(told) == 1


def test_a_full_gpu_is_no_verdict(untried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "received_attention", failing(torch.OutOfMemoryError("full")))
    with pytest.raises(torch.OutOfMemoryError):
        attention._runs_kernels(torch.device("cpu"))
    monkeypatch.setattr(attention, "received_attention", lambda *args, **options: None)
    assert attention._runs_kernels(torch.device("cpu"))


def test_an_old_gpu_gets_none_and_no_word(untried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(attention, "received_attention", failing(AssertionError()))
    assert not attention._runs_kernels(torch.device("cpu"))


def old_triton() -> types.ModuleType:
    module = types.ModuleType("triton")
    module.__version__ = "3.2.0"
    return module


@pytest.mark.parametrize("triton", [None, old_triton()], ids=["none", "old"])
def test_where_triton_is_not_it_is_refused_by_name(triton: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fused", "fused_kernels"):
        monkeypatch.delitem(sys.modules, f"finegrade.models.portable.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "triton", triton)
    monkeypatch.setitem(sys.modules, "triton.language", triton)
    with pytest.raises(ValueError, match=r"need triton 3\.3 or newer; install it"):
        received_attention(*draw(), backend="triton")


def test_tensors_on_a_cpu_are_refused_by_name(kernels: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finegrade.models.portable.fused.INTERPRETED", False)
    with pytest.raises(ValueError, match="the tensors are on cpu; wanted a GPU"):
        received_attention(*draw(), backend="triton")


COMPILE = """
import sys, functools, torch, triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver

class NoDevice:
    def get_current_device(self): return 0
    def get_current_stream(self, device): return 0
    def get_current_target(self): return GPUTarget("cuda", int(sys.argv[1]), 32)

def compiled(self, grid, **arguments):
    kernel = self.warmup(grid=grid, **arguments)  # does not run
    assert kernel.metadata.shared <= 99 * 1024, kernel.metadata  # what the smaller chips from Ampere on have

driver.set_active(NoDevice())
triton.JITFunction.__getitem__ = lambda self, grid: functools.partial(compiled, self, grid)

from finegrade.models.portable import fused
from finegrade.models.portable.received_attention import received_attention

fused.INTERPRETED = True  # CPU tensors are welcome
for dtype, dim, options in (
    (torch.bfloat16, 64, {}),
    (torch.bfloat16, 128, {"causal": True}),
    (torch.bfloat16, 256, {}),
    (torch.float16, 64, {"causal": True, "cu_seqlens": torch.tensor([0, 50, 100])}),
    (torch.float32, 64, {"window": 7, "attention_mask": torch.ones(1, 100).bool(), "sinks": torch.ones(4)}),
    (torch.float32, 128, {}),
    (torch.bfloat16, 64, {"softcap": 2.0, "attention_mask": torch.zeros(1, 1, 100, 100).bfloat16()}),
):
    query, key = (torch.ones(1, heads, 100, dim, dtype=dtype, requires_grad=True) for heads in (4, 2))
    received_attention(query, key, backend="triton", **options).sum().backward()
"""


@pytest.mark.slow
@pytest.mark.parametrize("capability", [80, 90])
def test_the_kernels_compile_for_gpus(capability: int, tmp_path: Path) -> None:
    """Down to machine code, of which the interpreter says nothing."""
    pytest.importorskip("triton", reason="triton is not installed")
    environment = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", COMPILE, str(capability)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.rglob("*.cubin"))) == 4 * 7
