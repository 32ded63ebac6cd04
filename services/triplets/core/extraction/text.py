"""Sentences and clauses, and whether they speak of the person, of now, and of what is so."""

import re

SENTENCES_MAX = 64
"""Of one text; what comes after them is not read."""
SENTENCE_CHARACTERS_MAX = 500
"""What is longer is no sentence, and is not read."""
_MARKS = str.maketrans(dict.fromkeys("\u2018\u2019\u02bc\u2032\u00b4\u0060", "'"))
_MARKS |= str.maketrans(dict.fromkeys("\u201c\u201d\u2033", '"'))
_MARKS |= str.maketrans(dict.fromkeys("\u2012\u2013\u2014\u2212", "-"))

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\s*[\n;•|]+\s*")
_CLAUSE_END = re.compile(r",\s+|\s+(?:and|but|while|who|which|where)\s+|\s*[()]\s*|\s+-\s+|:$")
_CLAUSE_END_KEEPING_AND = re.compile(r",\s+|\s+(?:but|while|who|which)\s+|\s*[()]\s*")
_NEGATION = re.compile(
    r"\b(?:not|no|never|none|nothing|without|nor|neither|hardly|rarely|cannot|\w+n't)\b",
    re.IGNORECASE,
)
_OTHERS = re.compile(
    r"\b(?:he|she|they|his|her|their|him|them|someone|somebody|anyone|anybody|people|everyone"
    r"|brothers?|sisters?|mother|mum|mom|father|dad|parents?|sons?|daughters?|kids?|child|children"
    r"|wife|husband|ex|girlfriend|boyfriend|partners?|friends?|uncle|aunt|cousins?|grand\w+|boss"
    r"|colleagues?|clients?|customers?|dogs?|cats?|horse|company|firm|startup|team|house|building"
    r"|we|our|us|you|your|candidates?|guys|girls|ladies|men|women)\b",
    re.IGNORECASE,
)
_NOT_NOW = re.compile(
    r"\b(?:was|were|when|ago|until|till|before|used|if|had|back then|formerly|previously|will"
    r"|until|since|by the time|once|almost|nearly|turning|half)\b",
    re.IGNORECASE,
)
_WISH = re.compile(
    r"\b(?:want|wants|wish|hope|hoping|dream|dreaming|would like|'d like|looking for|seeking"
    r"|seek|prefer|preferably|ideally|open to|search\w*|target)\b",
    re.IGNORECASE,
)
_I_AM = re.compile(r"\b(?:i'?m|i am)\b", re.IGNORECASE)


def sentences(text: str) -> list[str]:
    """The first 64 sentences of a text, with plain quotes and dashes."""
    parts = (part.strip() for part in _SENTENCE_END.split(text.translate(_MARKS)))
    return [part for part in parts if 0 < len(part) <= SENTENCE_CHARACTERS_MAX][:SENTENCES_MAX]


def clauses(sentence: str) -> list[tuple[str, str]]:
    """The clauses of a sentence, each with what stands before it."""
    # "between 25 and 35" is one clause.
    end = (
        _CLAUSE_END_KEEPING_AND
        if re.search(r"\bbetween\b", sentence, re.IGNORECASE)
        else _CLAUSE_END
    )
    parts: list[tuple[str, str]] = []
    start = 0
    for cut in end.finditer(sentence):
        parts.append((sentence[start : cut.start()], sentence[:start]))
        start = cut.end()
    parts.append((sentence[start:], sentence[:start]))
    return [(clause.strip(" .!?"), before) for clause, before in parts if clause.strip(" .!?")]


def is_negated(words: str) -> bool:
    """Whether something is said not to be so; what exactly, we do not try to tell."""
    return _NEGATION.search(words) is not None


def is_of_another(words: str, after: str, before: str, own: frozenset[str]) -> bool:
    """Whether a clause speaks of somebody else, or of a thing, so far as it tells.

    Args:
        words: the clause up to the value.
        after: the rest of the clause.
        before: the sentence up to the clause.
        own: words that stand for the value itself.
    """
    others = {match[0].lower() for match in _OTHERS.finditer(words)}
    if others - own:
        return True
    for owner in re.finditer(
        r"\b(?:my|the|this|that)\s+(\w+)(?:\s+(\w+))?(?:\s+(\w+))?", words, re.IGNORECASE
    ):
        if not own & {word.lower() for word in owner.groups() if word}:
            return True
    around = {match[0].lower() for match in _OTHERS.finditer(f"{before} {after}")}
    return bool(around - own) and _I_AM.search(words) is None


def is_past_or_possible(words: str) -> bool:
    """Whether the clause is of another time, or of what only might be."""
    return _NOT_NOW.search(words) is not None


def is_wish(words: str) -> bool:
    """Whether the clause says what someone would like."""
    return _WISH.search(words) is not None


def word_set(words: str) -> frozenset[str]:
    """The words, small and without the plural's s."""
    return frozenset(stem(word) for word in re.findall(r"[a-z]+", words.lower()))


def stem(word: str) -> str:
    """A word without the plural's s."""
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word
