"""finegrade.toml: one section a stage, each value checked, with its default beside it."""

from finegrade.config.base import user_path
from finegrade.config.schema import (
    CHUNK_TOKENS,
    AttentionName,
    Config,
    EvaluationConfig,
    LLMConfig,
    PoolingName,
    QueriesConfig,
    SourceConfig,
    TrainingConfig,
)
from finegrade.config.synthesis import MAX_LEVELS, MAX_TEXT_WORDS, MIN_LEVELS, DrawsConfig, SynthesisConfig, TasksConfig
from finegrade.config.verification import JUDGED, LEXICAL, LLM_JUDGE, VerificationConfig

__all__ = [
    "CHUNK_TOKENS", "JUDGED", "LEXICAL", "LLM_JUDGE", "MAX_LEVELS", "MAX_TEXT_WORDS", "MIN_LEVELS", "AttentionName",
    "Config", "DrawsConfig", "EvaluationConfig", "LLMConfig", "PoolingName", "QueriesConfig", "SourceConfig",
    "SynthesisConfig", "TasksConfig", "TrainingConfig", "VerificationConfig", "user_path",
]  # fmt: skip
