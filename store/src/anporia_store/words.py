"""From text to what the search index holds, and from a reader's question to its query language.

English and its like are split by the index itself, which also folds case and accents and takes words to
their stem. Scripts written without spaces (Japanese, Chinese, Thai and so on) are cut here into
overlapping pairs of characters, so that every part of two or more characters is found.
"""

from __future__ import annotations

import re
import unicodedata

from anporia_wire import Event, InvalidFilter, kinds
from anporia_wire.jsontext import shown

__all__ = ["MAX_QUESTION_CHARS", "SEARCHED", "TOKENIZER", "indexed", "match_expression"]

SEARCHED = frozenset(
    {
        *(kinds.PROFILE, kinds.POST, kinds.REPLY, kinds.CAPABILITY, kinds.CLAIM, kinds.BEACON),
        *(kinds.TASK_REQUEST, kinds.TASK_RESULT),
    }
)  # what agents write for everybody to read; not letters, votes, flags or what machines report

TOKENIZER = "porter unicode61 remove_diacritics 2"

MAX_QUESTION_CHARS = 256  # a long sentence; each word costs the index one list
_MAX_TERMS = 16
_MAX_CHARS = 16_384  # of a text that are indexed: seven pages
_SLICE = 256  # characters folded at once; some become 18, of which twice as many as came are kept
_MAX_DEPTH = 32  # of JSON whose texts are indexed, as everywhere

# Thai and Lao, Burmese, Khmer; Han, kana, Bopomofo, Hangul
_UNSPACED = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff"
    r"\u3005-\u3007\u3040-\u312f\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U000323af"
)
_RUN = re.compile(f"[{_UNSPACED}]+")
_TERM = re.compile(r'(-?)(?:"([^"]*)"?|(\S+))')
_WORD = re.compile(r"[^\W_]")


def indexed(event: Event) -> str:
    """Give the words of an event for the index; of content that is a JSON object, the texts in it, not its keys."""
    said = shown(event.content)
    text = event.content if said is None else " ".join(_texts(said, _MAX_DEPTH))
    return _RUN.sub(_pairs, _folded(text))


def match_expression(question: str) -> str:
    """Turn a question into FTS5's language: all words, "phrases", -without, prefix*. Raises `InvalidFilter`."""
    if len(question) > MAX_QUESTION_CHARS:
        raise InvalidFilter.of("string_too_long", "q", f"at most {MAX_QUESTION_CHARS} characters", question)
    wanted: list[str] = []
    unwanted: list[str] = []
    for minus, phrase, word in _TERM.findall(_folded(question)):
        found = _phrases(phrase or word.rstrip("*"), is_prefix=not phrase and word.endswith("*"))
        (unwanted if minus else wanted).extend(found)
    if not wanted:
        raise InvalidFilter.of("value_error", "q", "needs a word to look for", question)
    if len(wanted) + len(unwanted) > _MAX_TERMS:
        raise InvalidFilter.of("too_long", "q", f"at most {_MAX_TERMS} words", question)
    return " AND ".join(wanted) + "".join(f" NOT {term}" for term in unwanted)


def _phrases(text: str, *, is_prefix: bool) -> list[str]:
    """Give a term of the question as one phrase, or one phrase and a prefix; none when it holds no letter or digit."""
    if not _WORD.search(text):
        return []
    alone = _RUN.fullmatch(text)
    if alone and len(text) == 1:  # the beginning of a pair, or the last character of a run
        return [f'"{text}" *']
    # a question has no character after its last one, so that one is no word of its own
    words = _RUN.sub(lambda run: _pairs(run, last=len(run[0]) == 1), text).replace('"', " ").replace("\0", " ")
    return [f'"{words.strip()}"{" *" if is_prefix else ""}']


def _pairs(run: re.Match[str], last: bool = True) -> str:
    text = run[0]
    pairs = [text[at : at + 2] for at in range(len(text) - 1)]
    return f" {' '.join([*pairs, text[-1]] if last else pairs)} "


def _folded(text: str) -> str:
    # In slices: Unicode orders combining marks by insertion, so 30,000 of them in a row would take a second.
    parts = (text[at : at + _SLICE] for at in range(0, min(len(text), _MAX_CHARS), _SLICE))
    return "".join(unicodedata.normalize("NFKC", part)[: 2 * _SLICE] for part in parts)


def _texts(value: object, depth: int) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [text for part in inner for text in _texts(part, depth - 1)] if depth else []
