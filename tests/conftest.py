"""What several tests share: a tiny encoder, a tiny corpus, and a fake OpenAI-compatible server."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, is_hypothesis_test, settings

from helpers.corpus import WORDS, write_pairs
from helpers.fake_llm import FakeLLM

pytest_plugins = ["helpers.carriers"]
FAST_EXAMPLES = 10

os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(Path(__file__).parent), os.environ.get("PYTHONPATH")]))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # two workers on two cores: threads of one would wait for the other's
os.environ["HF_HUB_OFFLINE"] = "1"  # also for the processes that tests start
os.environ.setdefault("TRITON_INTERPRET", "1")  # kernels run as Python on the CPU; 0: compiled, on a GPU

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
"""No test fails because a machine is busy; and each example makes its own files in a fixture's folder."""
settings.register_profile("same each time", UNHURRIED, derandomize=True)
settings.register_profile("fast", UNHURRIED, derandomize=True, max_examples=FAST_EXAMPLES)  # make test-fast
settings.register_profile("new examples", UNHURRIED)  # pytest --hypothesis-profile="new examples", to look for more
settings.load_profile("same each time")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The profile "fast" also holds for tests that ask for more examples than its own."""
    if config.getoption("hypothesis_profile") != "fast":
        return
    for test in {item.obj for item in items if isinstance(item, pytest.Function) and is_hypothesis_test(item.obj)}:
        own = getattr(test, "_hypothesis_internal_use_settings", settings.default)
        fewer = min(own.max_examples, FAST_EXAMPLES)
        test._hypothesis_internal_use_settings = settings(own, max_examples=fewer)


@pytest.fixture(autouse=True, scope="session")
def no_flush_to_the_disk() -> Iterator[None]:
    """Files are flushed for a loss of power, which no test brings about, and that takes a tenth of the tests' time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: None)
        yield


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages have no charts, which take a third of a second to draw."""
    for name in ("scores_chart", "levels_chart", "loss_chart"):
        monkeypatch.setattr(f"finegrade.stages.report.{name}", lambda *_: "")


@pytest.fixture
def fake_llm() -> Iterator[FakeLLM]:
    """A fake LLM server, alive for one test."""
    server = FakeLLM()
    yield server
    server.close()


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT of two layers with random weights, as a sentence-transformers folder."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny") / "encoder"
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=64,
    )  # fmt: skip
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
        max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    fast.save_pretrained(folder)
    transformer = Transformer(str(folder), max_seq_length=64)
    model = SentenceTransformer(modules=[transformer, Pooling(32, pooling_mode="mean")])
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    """The pairs of ``write_pairs``, for one test."""
    return write_pairs(tmp_path / "pairs.jsonl")


@pytest.fixture
def no_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client asks once: its retries wait for seconds."""
    monkeypatch.setattr("finegrade.llm.errors.ATTEMPTS", 1)
    monkeypatch.setattr("finegrade.llm.errors.ATTEMPTS_OVERLOADED", 1)


@pytest.fixture(scope="session")
def chat_decoder(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a decoder with random weights, whose tokenizer has a chat template."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaModel

    folder = tmp_path_factory.mktemp("chat") / "decoder"
    config = LlamaConfig(vocab_size=100, hidden_size=32, intermediate_size=48, num_hidden_layers=1)
    LlamaModel(config).save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    tokenizer.chat_template = "{% for message in messages %}system open {{ message['content'] }} close{% endfor %}"
    tokenizer.save_pretrained(folder)
    return folder
