"""Tokenizers of captions, in pure Python.

Scores on captions depend on the tokenizer, so every result names the one it was made with. `ptb` follows the Java
program that the COCO caption evaluation calls (Stanford's PTBTokenizer with `-lowerCase`, then punctuation dropped);
`whitespace` is what MERA's published figures rest on (method-facts 4.6).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from polysense.errors import ConfigError

Tokenize = Callable[[str], list[str]]

PUNCTUATION: Final = frozenset(["''", "'", '"', "``", "`", ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""What the COCO evaluation drops; brackets are not in it because it looks for `-LRB-` among lower-case tokens."""

_BRACKETS: Final = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}

_SPELLED: Final = str.maketrans({
    **dict.fromkeys("\u2013\u2014\u2015\x96\x97", " -- "), "…": " ... ", "\xad": None,
    **dict.fromkeys("\u2019\u203a\x92", "'"), **dict.fromkeys("\u2018\u201b\u2039\x91", "`"),
    **dict.fromkeys("\u201c\u201d\xab\xbb\x93\x94", '"'),
    "¼": " 1/4 ", "½": " 1/2 ", "¾": " 3/4 ", "⅓": " 1/3 ", "⅔": " 2/3 ",
    "¢": " cents ", "£": " # ", **dict.fromkeys("€₠¤\x80", " $ "),
    **{chr(code): f" {chr(code)} " for span in ((0xB2, 0xB4), (0xB9, 0xBA), (0x2070, 0x2090), (0x2155, 0x215F),
                                                (0x2460, 0x2500), (0x2776, 0x2794)) for code in range(*span)},
})  # fmt: skip
"""Typographic characters in the Penn Treebank's ASCII; superscripts and numbers in circles stand alone."""

_ENTITIES: Final = {"&amp;": "&", "&lt;": " < ", "&gt;": " > ", "&quot;": '"', "&apos;": "'", "&nbsp;": " "}

_ABBREVIATIONS: Final = (
    "adm al ala apr ariz ark aug ave bldg blvd bros calif capt cf cmdr co col colo conn corp dec del dr esq est etc "
    "feb fla fri ft ga gen gov hon inc ind jan jr jul jun kan ky la lt ltd maj mar md messrs mich minn mo mon mont "
    "mr mrs ms mt neb nev nov oct okla pa ph.d prof rd rep rev sen sep sept sgt sq sr st tel tenn tex thu thurs tue "
    "tues va viz vs vt wed wis wyo"
)
"""Abbreviations that keep their full stop, in any case of letters."""
_CAPITAL_ONLY: Final = "Ill Mass Miss Ore Wash"
_STARTERS: Final = (  # words before which the full stop after a single letter ends a sentence
    "He She It They The A An This That These There Then We You In At But So As If When While What One Her Their Some "
    "Other Many After However According Now Here Since Our More"
)

_LETTER, _WORD = r"[^\W\d_]", r"(?:[^\W_]|[\u0300-\u036f])"
_ELIDED: Final = (  # words that hold an apostrophe
    rf"(?:[odl]'{_WORD}+|(?-i:[A-HJ-XZ]'){_LETTER}{{2,}}|s'mores?|c'mon|ma'am|cap'n|n'est|qu'il|"
    rf"{_LETTER}+[aeiou]'[aeiou]{_LETTER}*)"
)
_PART: Final = rf"(?:(?!\w+'(?:ll|re|ve)\b){_ELIDED}|{_WORD}+)"
_JOINED: Final = rf"{_PART}(?:[-_\u2010\u2011]{_PART})*"

_TOKEN: Final = re.compile(
    "|".join((
        # most words are plain: told apart at once, the rest need not be tried on them
        r"(?!(?:cannot|gonna|gotta|wanna|lemme|gimme)\b)[a-z][a-z\d]*(?=[\s,]|$)",
        # markup, addresses, emoticons
        r"<!--.*?-->|</?[a-z][\w.:-]*(?:\s+[\w:-]+(?:=(?:'[^']*'|\"[^\"]*\"|[^\s<>'\"]+))?)*\s*/?>",
        r"https?://[^\s\"<>|()]*[^\s\"<>|().,;:!?'-]|www\.[\w./?=&%~-]*\w|[\w.+-]+@[\w-]+(?:\.[\w-]+)*",
        r"[<>]?[:;]['-]?[()dp|\[\]](?!\w)|=-?[()]|\^_\^",
        # numbers that are more than digits: telephone, fraction, time, date, amount; a sign belongs to the number
        r"\(\d{3}\)(?:\d{3}-\d{4}|(?=\s\d{3}-\d{4}))",
        rf"\d+\s\d+/\d+|\d+(?:[.,/]\d+)+(?:-{_WORD}+)+|[-+]?(?:\d+(?:[.,:/]\d+)+|[.,:]\d+(?:[.,:]\d+)*)|[-+]\d+(?!\w)",
        # abbreviations and acronyms, and words that lack the space between two sentences
        rf"{_LETTER}(?:\.{_LETTER})+\.(?:{_WORD}+)?(?:-{_WORD}+)*(?!\w)|(?:{'|'.join(_ABBREVIATIONS.split())})\.(?!\w)",
        rf"(?-i:{'|'.join(_CAPITAL_ONLY.split())})\.(?!\w)|(?:no|fig)\.(?=\s?\d)",
        rf"{_LETTER}\.(?!\w)(?!\s+(?-i:{'|'.join(_STARTERS.split())})\b)",
        rf"{_LETTER}{_WORD}*(?:[.?!]{_LETTER}{_WORD}*)+(?:-{_WORD}+)*",
        r"(?-i:[A-Z]+(?:[&+][A-Z]+)+)|(?-i:[A-Z]|US|HK|NZ|AU)\$|c\+\+|[cf]#",
        # contractions
        rf"{_WORD}+?(?=n['`]t(?!\w))|n['`]t(?!\w)|'(?:ll|re|ve|[smd])(?!\w)|y'(?=\w)",
        r"(?:can(?=not)|gon(?=na)|got(?=ta)|wan(?=na)|lem(?=me)|gim(?=me))(?=\w+(?![\w'-]))",
        r"'t(?=is(?!\w)|was(?!\w))|'n'|'(?:em|cause|til|till|n)(?!\w)|'\d\ds?(?![\w'\"])",
        r"(?:ol|somethin)'|[dl]'(?!\w)",
        # words, joined by hyphens and slashes
        rf"{_JOINED}(?:/{_JOINED}){{0,2}}",
        # marks that come in rows; then any other character by itself
        rf"[#@]{_LETTER}\w*|\.{{3,}}|--+|``|''|[?!]+|\*+|_+|##+|<<|>>|[^\s\w]",
    )),
    re.IGNORECASE,
)  # fmt: skip
_UNKNOWN: Final = re.compile(r"[\U00010000-\U0010ffff\ue000-\uf8ff\u3000-\u303f\ufe00-\ufe6f\u200b-\u200f\ufeff]")


def ptb_tokens(text: str) -> list[str]:
    """Lower-case Penn Treebank tokens without punctuation, as the Java tokenizer of the COCO evaluation gives them.

    Contractions are split (`do n't`, `dog 's`), hyphenated words and `his/her` stay whole, brackets become `-lrb-`
    and the like, quotes and dashes of any kind are dropped. Derived from the program's output, not from its code:
    rare abbreviations, emoticons and scripts newer than Unicode 6 may differ.
    """
    text = _UNKNOWN.sub(" ", text.translate(_SPELLED))
    if "&" in text:
        text = re.sub(r"&[a-z]+;", lambda entity: _ENTITIES.get(entity[0], entity[0]), text)
    tokens = (token.lower() for token in _TOKEN.findall(text))
    kept = (_escaped(token) for token in tokens if token not in PUNCTUATION and not token.startswith(("--", "...")))
    return " ".join(kept).split()  # markup may hold spaces


def _escaped(token: str) -> str:
    for bracket, name in _BRACKETS.items():
        if bracket in token:
            token = token.replace(bracket, name)
    return token


TOKENIZERS: Final[dict[str, Tokenize]] = {"ptb": ptb_tokens, "whitespace": str.split}
"""Tokenizers by the name that results give; a further one is one more entry."""


def caption_tokenizer(name: str) -> Tokenize:
    """The tokenizer of that name.

    Raises:
        ConfigError: there is none.
    """
    if name not in TOKENIZERS:
        raise ConfigError(f"there is no caption tokenizer {name!r}", fix=f"Take one of {', '.join(TOKENIZERS)}.")
    return TOKENIZERS[name]
