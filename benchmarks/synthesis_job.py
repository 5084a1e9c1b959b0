"""The job of benchmarks/synthesis.py: what every contestant asks, each in its own environment."""

SYSTEM = "You write test data for a search engine. " * 40  # about what a prompt with two examples takes
SCHEMA = {
    "type": "object",
    "properties": {"passage": {"type": "string", "maxLength": 600}},
    "required": ["passage"],
    "additionalProperties": False,
}
RESPONSE_FORMAT = {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": SCHEMA}}
MAX_TOKENS, TEMPERATURE, SEED = 300, 0.7, 0


def question(number: int) -> str:
    """What is said under the system prompt."""
    return f"query: what does function {number} return?\npassage: " + f"It returns value {number}. " * 12


def messages(number: int) -> list[dict[str, str]]:
    """The chat of one request."""
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question(number)}]
