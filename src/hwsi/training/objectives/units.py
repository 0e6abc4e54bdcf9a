"""A report cut into its units of language: paragraph, sentences, phrases, words.

- Every unit stands in the report word for word (white space made plain), in the order of the report, each once.
- A full stop behind an abbreviation, an initial, a list label or inside a number ends no sentence.
- A term is never cut: "ductal carcinoma in situ", "Ki-67", "HER2/neu", "pT2 N0", "3.5 x 2 cm", "3+4=7" are one word.
- What is denied stays with its denial. A phrase is not cut behind "no" or "not", and such a phrase is one word: else
  "no necrosis or vascular invasion" would align tissue with "vascular invasion".
- Rules and a list of terms, no model: the same text gives the same units everywhere.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class ReportUnits:
    """Units of one report, each in the order of the text and none twice (letter case aside)."""

    paragraph: str
    sentences: tuple[str, ...]
    phrases: tuple[str, ...]
    words: tuple[str, ...]


# several words that mean one thing; a plural may follow
_TERMS = (
    "ductal carcinoma in situ", "lobular carcinoma in situ", "carcinoma in situ", "melanoma in situ",
    "invasive ductal carcinoma", "invasive lobular carcinoma", "invasive carcinoma of no special type",
    "no special type", "infiltrating ductal carcinoma", "squamous cell carcinoma", "basal cell carcinoma",
    "small cell carcinoma", "large cell carcinoma", "renal cell carcinoma", "clear cell carcinoma",
    "transitional cell carcinoma", "urothelial carcinoma", "hepatocellular carcinoma", "ductal carcinoma",
    "lobular carcinoma", "adenoid cystic carcinoma", "signet ring cell", "signet ring", "giant cell",
    "germ cell tumor", "germ cell tumour", "lymph node", "lymphovascular invasion", "vascular invasion",
    "perineural invasion", "capsular invasion", "extracapsular extension", "extranodal extension",
    "surgical margin", "resection margin", "invasion front", "tumor bed", "tumour bed",
    "tumor infiltrating lymphocyte", "tumour infiltrating lymphocyte", "tumor-infiltrating lymphocyte",
    "tumour-infiltrating lymphocyte", "plasma cell", "mast cell", "goblet cell", "ganglion cell", "clear cell",
    "spindle cell", "tumor cell", "tumour cell", "mitotic figure", "mitotic count", "mitotic rate", "mitotic activity",
    "high power field", "high-power field", "nuclear pleomorphism", "nuclear grade", "histologic grade",
    "histological grade", "tubule formation", "nottingham grade", "nottingham score", "gleason score", "gleason grade",
    "gleason pattern", "grade group", "keratin pearl", "intercellular bridge", "prominent nucleoli",
    "germinal center", "germinal centre", "fibrous stroma", "desmoplastic stroma", "desmoplastic reaction",
    "connective tissue", "adipose tissue", "granulation tissue", "smooth muscle", "muscularis propria",
    "lamina propria", "crohn's disease", "barrett's esophagus", "barrett's oesophagus", "estrogen receptor",
    "oestrogen receptor", "progesterone receptor", "microsatellite instability", "mismatch repair",
)  # fmt: skip

_NUMBER = r"\d+(?:[.,]\d+)*"
_UNIT = r"(?:mm2|mm²|mm\^2|mm|cm|µm|μm|um|nm|kg|mg|ml|g|%|per\s+HPF|/\s?HPF|HPFs?)"
_STAGE = r"[ypcra]{0,2}T(?:is|[0-4][a-d]?|[Xx])"
_WORD = r"[^\W_]+(?:[-‐‑/'’.+][^\W_]+)*\+?"
_TOKENS = re.compile(
    "|".join(
        (
            r"\b(?:grade group|grade|stage|score|group|pattern|type|level)\s(?:[0-4]|I{1,3}|IV)[a-c]?(?![^\W_+])",
            r"\b(?-i:[A-Z]\.\s[a-z]{3,})",
            r"\b(?:" + "|".join(map(re.escape, sorted(_TERMS, key=len, reverse=True))) + r")(?:s|es)?\b",
            rf"\b{_STAGE}(?:\s*p?\(?N[0-3Xx][a-c]?(?:\(\w+\))?)?(?:\s*[pc]?M[01Xx]\b)?(?![^\W_])",
            r"\b(?:e\.g\.|i\.e\.)",
            r"\b\d+\s?(?:\+\s?\d+)+(?:\s?=\s?\d+)?(?:/\d+)?",
            rf"{_NUMBER}(?:\s?(?:{_UNIT})?\s?[x×]\s?{_NUMBER})+(?:\s?{_UNIT}(?![^\W_]))?",
            rf"{_NUMBER}(?:\s?(?:-|–|to)\s?{_NUMBER})?\s?{_UNIT}(?![^\W_])",
            rf"{_NUMBER}(?:/{_NUMBER})?(?:\+)?(?![^\W_-])",
            _WORD,
        )
    ),
    re.IGNORECASE,
)


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


# function words, and words of reports that name nothing to be seen
_STOP = _set(
    """a about above across after all along also although among an and another any are area areas around as at
    based be been before being below between both but by can case consistent containing contains demonstrate
    demonstrated demonstrates demonstrating displays do does each either evidence evident examination examined
    exhibit exhibits feature features few finding findings following for found from has have having here however
    identified if in include includes including indicate indicates indicating into is it its itself may microscopic
    microscopically more most mostly much my noted observation observations observed of on one only onto or other
    our out over overall own part per pathology present presence reveal revealed reveals report same sample section
    sections see seen several show showed showing shown shows slide so some specimen such suggest suggests suggesting
    than that the their them themselves then there therefore these they this those through throughout to together
    too toward towards under up upon use used very via was we were what when where whereas which while who whose will
    with within would you additionally addition furthermore signifies e.g. i.e. dr prof fig figs approx cf"""
)

_DENIALS = _set(
    "no not without absent absence negative nor neither none never cannot lack lacks lacking excluded free "
    "unremarkable isn't aren't don't doesn't didn't wasn't weren't"
)
_CUTS = _set(
    """and or with but while whereas although which that showing shows show reveals reveal revealing demonstrates
    demonstrate demonstrating exhibits exhibit exhibiting displaying displays containing contains including includes
    indicating indicates suggesting suggests signifies characterized characterised by accompanied surrounded composed
    consisting forming within"""
)
_CONTRASTS = _set("but however whereas while although")

# never the end of a sentence, whatever follows
_SHORT = _set(
    "e.g i.e cf vs viz approx ca incl resp dr drs prof mr mrs ms st fig figs eq ref refs max min avg dept "
    "esp spp sp var diam circa"
)
# no end before a number: "no. 3", "vol. 2"
_BEFORE_NUMBER = _set("no nos nr vol pp p ch sec tab table grade gr approx ca")
# no end before a small letter: "2 cm. in diameter"
_MEASURES = _set("cm mm um µm μm nm kg mg ml g hr min approx")
_TITLES = _set("dr drs prof mr mrs ms")

_BREAK = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*•–]\s|\d{1,2}[.)]\s|[A-Z][.)]\s))")
_STOPPED = re.compile(r"[.!?]+[\"”’')\]]*(?=\s)")
_LABEL = re.compile(r"(?:[-*•–]|\(?(?:\d{1,2}|[A-Za-z]))[.)]?")
_LISTED = re.compile(r"(?:[-*•–]|\(?\d{1,2}[.)]|\(?[A-Za-z][.)](?=\s[^a-z]))\s")
_MARKS = re.compile(r"[,()\[\]]|\s[-–—]\s")


def decompose(report: str) -> ReportUnits:
    """The units of a report.

    Args:
        report: any text; line breaks count where a blank line or a list label follows.

    Returns:
        ``paragraph`` is the report in plain white space; each sentence is a piece of it, each phrase and word a piece
        of a sentence. No kind is empty, unless the report holds nothing but white space: then all are.
    """
    paragraph = " ".join(report.split())
    if not paragraph:
        return ReportUnits("", (), (), ())
    blocks = (" ".join(block.split()) for block in _BREAK.split(report))
    sentences = [s for block in blocks if block for s in _sentences(block)]
    # what holds no letter and no digit, such as a rule of dashes, says nothing: it stands only where nothing else does
    spoken = [s for s in sentences if _TOKENS.search(s)] or sentences
    phrases = [p for s in spoken for p in _phrases(s)]
    words = [w for p in phrases for w in _words(p)]
    return ReportUnits(paragraph, _once(spoken), _once(phrases), _once(words))


def _sentences(block: str) -> Iterator[str]:
    """Sentences of a block (plain white space), in order; together they are the block."""
    start = 0
    for stop in _STOPPED.finditer(block):
        if _ends(block, start, stop):
            yield block[start : stop.end()].strip()
            start = stop.end()
    if rest := block[start:].strip():
        yield rest


def _ends(block: str, start: int, stop: re.Match[str]) -> bool:
    """Whether the full stop (or ! or ?) of ``stop`` ends the sentence that began at ``start``."""
    sentence = block[start : stop.start()].strip()
    if not stop[0].startswith("."):
        return True
    if _LABEL.fullmatch(sentence):
        return False
    before = sentence.split()
    last = before[-1].lstrip("(\"'[“").casefold() if before else ""
    follows = block[stop.end() :].lstrip()[:1]
    if last in _SHORT or (last in _BEFORE_NUMBER and follows.isdigit()):
        return False
    if last == "al" and len(before) > 1 and before[-2] == "et":
        return follows.isupper()
    if len(last) == 1 and last.isalpha():  # E. coli, Dr. J. Smith; but: the section of block B. The margin
        return not follows.islower() and not (len(before) > 1 and before[-2].rstrip(".").casefold() in _TITLES)
    return not (last in _MEASURES and follows.islower())


def _phrases(sentence: str) -> Iterator[str]:
    """Pieces of a sentence between marks and joining words; what follows a denial stays in one piece."""
    label = _LISTED.match(sentence)
    tokens = list(_TOKENS.finditer(sentence, label.end() if label else 0))
    if not tokens:
        yield sentence
        return
    first, denied, found = 0, tokens[0][0].casefold() in _DENIALS, False
    for i, (token, after) in enumerate(pairwise(tokens), start=1):
        gap, word = sentence[token.end() : after.start()], after[0].casefold()
        joined = word in _CUTS or token[0].casefold() in _CUTS or _MARKS.search(gap)
        if ";" in gap or word in _CONTRASTS or (joined and not denied):
            if piece := _piece(sentence, tokens[first:i]):
                found = True
                yield piece
            first, denied = i, False
        denied = denied or word in _DENIALS
    if piece := _piece(sentence, tokens[first:]):
        found = True
        yield piece
    if not found:
        yield _span(sentence, tokens)


def _piece(sentence: str, tokens: list[re.Match[str]]) -> str:
    """A phrase without joining words and articles at its ends; empty if nothing is left."""
    kept = list(tokens)
    while kept and _bare(kept[0]):
        kept.pop(0)
    # "is not seen": behind a denial the last words say what is denied
    while kept and _bare(kept[-1]) and not _denies(kept):
        kept.pop()
    return _span(sentence, kept) if kept else ""


def _denies(tokens: list[re.Match[str]]) -> bool:
    return any(t[0].casefold() in _DENIALS for t in tokens)


def _bare(token: re.Match[str]) -> bool:
    word = token[0].casefold()
    return (word in _STOP or word in _CUTS) and word not in _DENIALS


def _words(phrase: str) -> Iterator[str]:
    """Terms and content words of a phrase; a phrase that denies something is one word."""
    tokens = list(_TOKENS.finditer(phrase))
    if _denies(tokens):
        yield phrase
        return
    content = [t[0] for t in tokens if t[0].casefold() not in _STOP]
    yield from content or [phrase]


def _span(text: str, tokens: list[re.Match[str]]) -> str:
    return text[tokens[0].start() : tokens[-1].end()]


def _once(units: Iterable[str]) -> tuple[str, ...]:
    """The first of each, letter case aside."""
    found: dict[str, str] = {}
    for unit in units:
        found.setdefault(unit.casefold(), unit)
    return tuple(found.values())
