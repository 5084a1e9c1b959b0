"""The card of a mean-pooling student."""

from pathlib import Path

from finegrade.closeness import Closeness
from finegrade.export_folder import weight_hashes
from finegrade.report.summary import RE_EMBED, load_snippet


def write_student_card(
    folder: Path, source: Path, before: Closeness, after: Closeness, held_out: int, learnt: int, steps: int
) -> None:
    """Writes ``README.md``. Of the user's data it holds counts, never a text.

    Args:
        folder: The student's.
        source: The model's.
        before: Of the mean of the model's token states, to the model's vectors.
        after: Of the student.
        held_out: Texts that both were measured on.
        learnt: Texts that the student was distilled on.
        steps: Of the distillation.
    """
    hashes = [f"- `{name}`: sha256 `{digest}`" for name, digest in weight_hashes(source).items()]
    lines = [
        "---", "library_name: sentence-transformers", "---", "", "# A text-embedding model with mean pooling", "",
        "A student that finegrade made for servers that know only mean pooling. It stands in for a model that pools "
        "otherwise, whose weights it started from:", "", *hashes, "",
        f"It was distilled in {steps:,} steps on {learnt:,} texts. On {held_out:,} others, its vectors compared with "
        "the original's:", "",
        "| | cosine, mean | cosine, 5 % quantile | same nearest neighbour |", "|---|---|---|---|",
        _row("original weights, mean pooling", before), _row("**this student**", after), "",
        f"{RE_EMBED} Nor do the student's with the original's.", "",
        "```python", load_snippet(folder).replace(repr(str(folder)), repr("path/to/this/folder")), "```", "",
    ]  # fmt: skip
    (folder / "README.md").write_text("\n".join(lines), encoding="utf-8")


def _row(name: str, found: Closeness) -> str:
    return f"| {name} | {found.mean:.4f} | {found.low:.4f} | {found.same_nearest:.1%} |"
