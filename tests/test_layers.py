"""Imports go downwards only, and stages never import one another: the picture in docs, held by a test."""

import ast
from pathlib import Path

import pytest

import finegrade

ROOT = Path(finegrade.__file__).parent

RANKS: dict[str, int] = {
    module: rank
    for rank, modules in enumerate(
        (
            # what uses nothing but other people's libraries
            "text adapters attention_direction closeness onnx_graph portable portable.visibility "
            "formats formats.json_lines portable.token_pooling portable.fused_tiles",
            "portable.blockwise portable.fused_kernels",
            "portable.fused",
            "section lexical_scorer model_folder errors word_runs bounded "
            "pages machine entries records console levels near_duplicates schemas "
            "portable.received_attention "
            "portable.anchor_pooling portable.latent_pooling "
            "llm sources sources.jsonl llm.embedded_child sources.document sources.decoding evaluation "
            "evaluation.metrics",
            # words of the configuration, formats, the run folder
            "writing_config verification_config durable llm.limiter llm.failures llm.connecting llm.batch_state "
            "benchmark_columns sources.csv_rows "
            "formats.given formats.table formats.line_index formats.texts",
            "leak_rules config catalogue row_files store drawing trainer hub lexical llm.request llm.explaining charts "
            "curriculum "
            "siblings onnx_model "
            "vectors mteb_texts formats.output_files formats.column_roles formats.parquet_table "
            "formats.beir_lines formats.pairs_by_query portable.anchor_transformer llm.embedded llm.ledger "
            "sources.boilerplate sources.html sources.hub "
            "sources.markdown sources.pairs sources.pdf sources.tables evaluation.judging evaluation.rankers",
            # sources; carriers of models
            "benchmark_texts dense formats.csv_table formats.jsonl_table formats.column_rows formats.flag_embedding "
            "formats.labelled_pairs "
            "formats.beir_folder config_file config_writing export_folder plain_folder wheels rows mining "
            "llm.budget llm.commits "
            "llm.dialect llm.completion sources.files sources.languages sources.own_queries sources.python_docs "
            "sources.splitting",
            "fetching summary formats.columns formats.beir_cases fusion decontamination distil_texts llm.accounts "
            "llm.batch_files llm.batch_rows sources.documents "
            "sources.document_seeds sources.working_set evaluation.test_set",
            "gguf weights formats.beir_run llm.client llm.batch_server prompts cross_encoders",
            "llm.batch_runner formats.opening judge_prompts encoder",
            "llm.batching bi_encoders",
            # what stages are made of
            "cards data_card student_card packing task_prompts near_misses scoring "
            "llm.asking llm.structured sources.tokens "
            "evaluation.sts",
            "trained finding llm.session mining_index sibling_gates query_prompts sample_prompts orders "
            "writer_probe score_book calibration "
            "sources.chunking evaluation.intervals",
            "anchors requests_ahead llm_judge committee query_gates faults sources.pieces sources.looking "
            "evaluation.own evaluation.row_scores",
            "sample_gates panel views",
            "writing ray_keeper estimating near_copies",
            "drafting assembling repeats verdicts",
            "ray_engine agreement verification_findings",
            "verifier",
            "verified_parts own_files given_verdicts",
            # the stages: never one another
            "shading fitting data_export tasking importing querying seeding synthesis verification training "
            "evaluation.stage reporting",
            # the road, and its door
            "anchor_viewing exporting distilling given_data pipeline consent initialising",
            "previewing",
            "cli",
            "entry",
        )
    )
    for module in modules.split()
}
"""Module -> layer. A module imports from lower layers only; stages meet in the run folder."""

STAGES = {
    "tasking", "importing", "querying", "seeding", "synthesis", "verification", "training", "evaluation.stage",
    "reporting",
}  # fmt: skip

PORTABLE_MAY_IMPORT_BESIDES = {"torch", "transformers", "sentence_transformers", "triton", "typing_extensions"}


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {_name(path): path for path in sorted(ROOT.rglob("*.py")) if path != ROOT / "__init__.py"}


def _imports(path: Path) -> set[str]:
    """Every absolute or relative import in a file, inside functions too, as dotted names."""
    package = ["finegrade", *path.relative_to(ROOT).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module) if part)
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def _own(path: Path) -> set[str]:
    """The finegrade modules that a file imports; a package's own __init__ counts where nothing below it is named."""
    own = set()
    for name in _imports(path):
        inner = name.removeprefix("finegrade.")
        if inner != name:
            while inner and inner not in MODULES:
                inner = inner.rpartition(".")[0]
            if inner:
                own.add(inner)
    return own


def test_every_module_has_a_layer():
    assert set(MODULES) == set(RANKS)


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_downwards_only(module):
    upwards = {other for other in _own(MODULES[module]) if RANKS[other] >= RANKS[module] and other != module}
    assert not upwards


def test_the_import_graph_was_read():
    assert {"store", "records", "fetching", "verifier"} <= _own(MODULES["verification"])
    assert _own(MODULES["pipeline"]) >= STAGES


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_stages_never_import_one_another(stage):
    assert not _own(MODULES[stage]) & (STAGES - {stage})


@pytest.mark.parametrize("module", sorted(name for name in MODULES if name.startswith("portable.")))
def test_portable_files_import_only_siblings_and_third_parties(module):
    import sys

    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1
            assert f"portable.{node.module}" in MODULES
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for name in names:
                top = name.partition(".")[0]
                assert top in PORTABLE_MAY_IMPORT_BESIDES or top in sys.stdlib_module_names, name
