"""``finegrade export --pooling mean``: a student with mean pooling, for servers that know no other.

The student starts from the model's own weights. A short distillation on the user's texts brings the mean of its token
states near the vector that the model pools.
"""

import random
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import EmbedDistillLoss
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from torch import nn

from finegrade.console import progress, say
from finegrade.data.pairs import holds_pairs, read_pairs
from finegrade.data.readers.document import Unread
from finegrade.data.readers.tables import NoTextColumnError, read_jsonl, row_documents
from finegrade.data.readers.text_files import decode
from finegrade.errors import InputError
from finegrade.export.folder import new_export, weight_hashes, write_manifest
from finegrade.models.encoder import REMEDY, embed, load_trained, load_transformer
from finegrade.models.portable.anchor_transformer import last_attention
from finegrade.records import Seed
from finegrade.report.summary import RE_EMBED, load_snippet
from finegrade.storage.atomic import read_json, write_json
from finegrade.storage.run_folder import TEST_SEEDS, TRAIN_SEEDS, RunFolder, is_run_folder
from finegrade.storage.tables import read_rows
from finegrade.text import encodable
from finegrade.training.trainer import QuietTrainer, prepare_training, trainer_arguments

STEPS = 100
_BATCH, _LEARNING_RATE, _WARMUP_SHARE, _SEED = 32, 5e-5, 0.1, 0
_LOW = 0.05
_HELD_OUT, _HELD_OUT_SHARE, _FEWEST = 500, 0.1, 20  # texts
_TEXTS_WANTED = "--texts: one text a line, or JSONL with pairs or with a column of text"
_MODES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")


def distil(folder: Path, texts: Path | None, output: Path | None, steps: int = STEPS) -> None:
    """Makes the student, measures how close it is to the model, and writes it with its card.

    It lies beside the model by default, and learns from the texts of the model's run. A step takes 32 texts.

    Raises:
        InputError: The model pools by the mean itself, its vectors are no numbers, or there are too few texts.
    """
    prepare_training()
    target = output or folder.resolve().with_name(f"{folder.resolve().name}-mean")
    with new_export(target, folder) as work:
        model = _load_model(folder)
        learnt, held_out = texts_of_file(texts, _SEED) if texts else texts_of_run(folder, _SEED)
        learnt = learnt[: steps * _BATCH]
        original = _vectors(model, held_out, "the model's vectors, held-out texts")
        if not np.isfinite(original).all():
            raise InputError(str(folder), got="vectors that are no numbers", wanted="a sound model", remedy=REMEDY)
        student = new_student(folder, model)
        before = closeness(_vectors(student, held_out, "the mean's vectors, held-out texts"), original)
        _train(student, learnt, _vectors(model, learnt, "the model's vectors"), steps)
        save_plain(student, work)
        saved = SentenceTransformer(str(work), local_files_only=True, trust_remote_code=False)
        after = closeness(_vectors(saved, held_out, "the student's vectors, held-out texts"), original)
        if not after.mean >= before.mean:
            say(
                f"the student came out no nearer (1 - cosine {1 - after.mean:.1e}) than it began "
                f"({1 - before.mean:.1e}): the mean is kept as it was, untrained"
            )
            student, after, steps = new_student(folder, model), before, 0
            save_plain(student, work)
        card = _card(work, folder, before, after, f"{steps:,} steps on {len(learnt):,} texts", len(held_out))
        (work / "README.md").write_text(card, encoding="utf-8")
        figures = {"before": before._asdict(), "after": after._asdict(), "held_out": len(held_out)}
        training = {"texts": len(learnt), "steps": steps, "batch_size": _BATCH, "learning_rate": _LEARNING_RATE}
        write_manifest(work, "mean", folder, {"closeness": figures, "training": training})
    say(f"on {len(held_out):,} texts that were held out, to the model's own vectors:")
    say(f"  its mean, before:  {before}")
    say(f"  the student:       {after}")
    for line in server_needs(student):
        say(line)
    say(f"{target}: written")


def _load_model(folder: Path) -> SentenceTransformer:
    model = load_trained(folder)
    if any(isinstance(module, Pooling) and module.pooling_mode == "mean" for module in model):
        remedy = "Serve it as it is: it is what a student would be."
        raise InputError(str(folder), got="mean pooling", wanted="a model that pools otherwise", remedy=remedy)
    if model.get_embedding_dimension() != model[0].get_embedding_dimension():
        got, wanted = f"{model.get_embedding_dimension()} dimensions", "as many as a token's state has"
        raise InputError(str(folder), got=got, wanted=wanted, remedy=REMEDY)
    return model


def new_student(folder: Path, model: SentenceTransformer) -> SentenceTransformer:
    """The student before training: the model's own weights under the mean of the token states.

    It has no dropout: there is one right vector for each text, and noise moves a student away that is already near.
    """
    transformer = load_transformer(folder)
    for part in transformer.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        for name, value in vars(part).items():
            if "dropout" in name and isinstance(value, float):
                setattr(part, name, 0.0)
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")
    return SentenceTransformer(
        modules=[transformer, pooling, Normalize()], prompts=model.prompts,
        default_prompt_name=model.default_prompt_name, device=str(model.device),
    )  # fmt: skip


def _vectors(model: SentenceTransformer, texts: list[str], what: str) -> NDArray[np.float32]:
    """[texts, dimension], of length 1 also where the model does not normalise them."""
    vectors = embed(model, texts, _BATCH, what)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _train(student: SentenceTransformer, texts: list[str], targets: NDArray[np.float32], steps: int) -> None:
    """Pulls the student's vectors to the targets: the loss is 1 - cosine, half the squared distance."""
    dataset = Dataset.from_dict({"text": texts, "label": list(targets)})
    with TemporaryDirectory() as work, progress("distilling", steps) as meter:
        arguments = trainer_arguments(
            Path(work), steps=steps, batch_size=_BATCH, learning_rate=_LEARNING_RATE, warmup_share=_WARMUP_SHARE,
            bf16=None, seed=_SEED, save_strategy="no", prompts=student.prompts.get(student.default_prompt_name),
        )  # fmt: skip
        QuietTrainer(
            meter, lambda step, loss: f"1 - cosine {loss:.4f}", model=student, args=arguments, train_dataset=dataset,
            loss=EmbedDistillLoss(student, distance_metric="cosine"),
        ).train()  # fmt: skip


def texts_of_run(model: Path, seed: int) -> tuple[list[str], list[str]]:
    """Queries and texts of the run that a model lies in: the train side to learn, the test side held out."""
    folder = next((parent for parent in model.absolute().parents if is_run_folder(parent)), None)
    if folder is None or not RunFolder(folder).path(TRAIN_SEEDS).is_file():
        got = "no run folder around it, whose texts it could take"
        raise InputError(str(model), got=got, wanted="texts to distil on", remedy=f"Give {_TEXTS_WANTED}.")
    run = RunFolder(folder)
    seeds = (read_rows(run.path(name), Seed) for name in (TRAIN_SEEDS, TEST_SEEDS))
    learnt, test = (_different(text for seed in side for text in (seed.query, *seed.positives)) for side in seeds)
    known = set(learnt)
    held_out = [text for text in test if text not in known]  # of documents, test queries search the train side, too
    return _drawn(learnt, held_out, str(folder), seed)


def texts_of_file(path: Path, seed: int) -> tuple[list[str], list[str]]:
    """The texts of a file to learn, and one in ten held out, in an order drawn with the seed.

    It holds a text a line; or JSONL with pairs, or with documents in a column that the sources know.
    """
    try:
        is_jsonl = path.suffix.lower() in (".jsonl", ".ndjson")
        texts = _different(_of_rows(path) if is_jsonl else decode(path.read_bytes())[0].splitlines())
    except (OSError, ValueError) as error:
        got, remedy = getattr(error, "strerror", None) or error, f"Name another {_TEXTS_WANTED}."
        raise InputError(f"--texts {path}", got=got, wanted="a file of texts", remedy=remedy) from None
    random.Random(seed).shuffle(texts)
    held_out = min(_HELD_OUT, round(_HELD_OUT_SHARE * len(texts)))
    return _drawn(texts[held_out:], texts[:held_out], f"--texts {path}", seed)


def _of_rows(path: Path) -> Iterable[str]:
    if holds_pairs(path):
        return [text for pair in read_pairs(path) for text in (pair.query, pair.positive)]
    try:
        documents = list(row_documents(path.name, read_jsonl(path, lambda _: None), None, None))
    except NoTextColumnError as error:
        raise InputError(f"--texts {path}", got=error.got, wanted=error.wanted, remedy='Name it "text".') from None
    unread = [document for document in documents if isinstance(document, Unread)]
    if unread:
        say(f"{path}: {len(unread):,} rows left out, the first because of: {unread[0].reason}")
    return [
        " ".join((document.blocks[0].heading, *(block.text for block in document.blocks)))
        for document in documents
        if not isinstance(document, Unread)
    ]


def _different(texts: Iterable[str]) -> list[str]:
    """Each text once, white space folded, without those that are empty."""
    folded = dict.fromkeys(" ".join(encodable(text).split()) for text in texts)
    return [text for text in folded if text]


def _drawn(learnt: list[str], held_out: list[str], name: str, seed: int) -> tuple[list[str], list[str]]:
    if len(learnt) + len(held_out) < _FEWEST or min(len(learnt), len(held_out)) < 2:
        got = f"{len(learnt)} different texts to learn from and {len(held_out)} to hold out"
        raise InputError(name, got=got, wanted=f"at least {_FEWEST} in all", remedy=f"Give more, by {_TEXTS_WANTED}.")
    draw = random.Random(seed)
    return draw.sample(learnt, len(learnt)), draw.sample(held_out, min(_HELD_OUT, len(held_out)))


class Closeness(NamedTuple):
    """How close the vectors of one model are to those of another: the mean and the 5 % quantile of each text's cosine.

    ``same_nearest`` is the share of the texts that have the same nearest other text.
    """

    mean: float
    low: float
    same_nearest: float

    def __str__(self) -> str:
        return (
            f"cosine {self.mean:.4f} on average, {self.low:.4f} at the 5 % quantile; "
            f"the same nearest neighbour for {self.same_nearest:.1%}"
        )


def closeness(vectors: NDArray[np.float32], original: NDArray[np.float32]) -> Closeness:
    """Compares two models row by row, each [texts, dimension], of length 1; at least two different texts."""
    cosines = np.einsum("nd,nd->n", vectors, original)
    same = _nearest(vectors) == _nearest(original)
    return Closeness(float(cosines.mean()), float(np.quantile(cosines, _LOW)), float(same.mean()))


def _nearest(vectors: NDArray[np.float32]) -> NDArray[np.intp]:
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    nearest: NDArray[np.intp] = similarity.argmax(axis=1)
    return nearest


def save_plain(model: SentenceTransformer, folder: Path) -> None:
    """Saves a model of transformer, mean pooling and Normalize so that it loads without our code, also in servers."""
    model.save_pretrained(str(folder), create_model_card=False)
    modules: list[dict[str, Any]] = read_json(folder / "modules.json")
    for module in modules:
        module["type"] = f"sentence_transformers.models.{module['type'].rpartition('.')[2]}"
    write_json(folder / "modules.json", modules)
    pooling = {f"pooling_mode_{mode}": mode == "mean_tokens" for mode in _MODES}
    pooling_config = {"word_embedding_dimension": model.get_embedding_dimension(), **pooling, "include_prompt": True}
    write_json(folder / modules[1]["path"] / "config.json", pooling_config)
    lengths = {"max_seq_length": model.max_seq_length, "do_lower_case": False}
    write_json(folder / "sentence_bert_config.json", lengths)


def _card(folder: Path, source: Path, before: Closeness, after: Closeness, training: str, held_out: int) -> str:
    """The student's README.md. Of the user's data it holds counts, never a text."""
    hashes = [f"- `{name}`: sha256 `{digest}`" for name, digest in weight_hashes(source).items()]
    lines = [
        "---", "library_name: sentence-transformers", "---", "", "# A text-embedding model with mean pooling", "",
        "A student that finegrade made for servers that know only mean pooling. It stands in for a model that pools "
        "otherwise, and started from its weights:", "", *hashes, "",
        f"It was distilled in {training}. On {held_out:,} others, its vectors compared with the original's:", "",
        "| | cosine, mean | cosine, 5 % quantile | same nearest neighbour |", "|---|---|---|---|",
        *(
            f"| {name} | {found.mean:.4f} | {found.low:.4f} | {found.same_nearest:.1%} |"
            for name, found in (("original weights, mean pooling", before), ("**this student**", after))
        ), "",
        f"{RE_EMBED} Nor do the student's with the original's.", "",
        "```python", load_snippet(folder).replace(repr(str(folder)), repr("path/to/this/folder")), "```", "",
    ]  # fmt: skip
    return "\n".join(lines)


def server_needs(student: SentenceTransformer) -> list[str]:
    """What a server has to support beyond mean pooling, one line each."""
    name, config = type(student[0].model).__name__, student[0].config
    attention = last_attention(student[0].model)
    if getattr(config, "is_causal", None) is False:
        return [f"{name} with is_causal=false in config.json: the server must honour it, or it gives other vectors."]
    if getattr(attention, "is_causal", False):
        return [f"{name} is a decoder: the server must support it as an embedding model, with mean pooling."]
    return []
