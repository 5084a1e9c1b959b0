"""Which language the texts are in, and whether the models speak it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from finegrade.errors import InputError
from finegrade.models.catalogue import CATALOGUE

SAMPLE, SHARE = 200, 0.2
"""Of about so many texts, a language counts from this share on."""

_CERTAIN_FROM, _LOOKED_AT, _CERTAIN = 100, 200, 0.99  # characters; characters; probability
_SHORTEST = 40  # characters: shorter texts are guessed wrongly too often


def languages(texts: Sequence[str]) -> Counter[str]:
    """ISO 639-1 code -> how many texts of a sample, evenly taken, are in that language."""
    import py3langid

    long_enough = [text for text in texts if len(text) >= _SHORTEST]
    step = max(1, len(long_enough) // SAMPLE)
    return Counter(py3langid.classify(text)[0] for text in long_enough[::step])


def certain_language(text: str) -> str | None:
    """ISO 639-1 code of the text's language; None where it is too short, or the guess is not certain."""
    if len(text) < _CERTAIN_FROM:
        return None
    language, probability = _identifier().classify(text[:_LOOKED_AT])
    return str(language) if probability >= _CERTAIN else None


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def frequent_languages(texts: Sequence[str]) -> dict[str, float]:
    """The languages that count, with their shares, most frequent first."""
    found = languages(texts)
    shares = {language: number / found.total() for language, number in found.most_common()}
    return {language: share for language, share in shares.items() if share >= SHARE}


def check_language(found: Mapping[str, float], models: Iterable[tuple[str, str]], language: str) -> None:
    """Stops where a part of the texts is in a language that an embedded model does not speak.

    Models that are not in the catalogue are the user's choice and taken to speak what they are asked to.

    Args:
        found: The languages that count, with their shares.
        models: Setting and name of each model.
        language: source.language; with "any" nothing is checked.
    """
    if language == "any":
        return
    mute: dict[str, list[str]] = {}
    for setting, name in models:
        spoken = CATALOGUE[name].languages if name in CATALOGUE else ()
        for one in found:
            if spoken and one not in spoken:
                mute.setdefault(one, []).append(f'{setting} ("{name}")')
    if mute:
        shares = ", ".join(f"{one} in {found[one]:.0%} of the texts" for one in mute)
        settings = ", ".join(dict.fromkeys(setting for settings in mute.values() for setting in settings))
        remedy = f"Name models that speak it: {settings}. Or go on as it is with --force."
        raise InputError("the language", got=shares, wanted="a language that the models speak", remedy=remedy)
