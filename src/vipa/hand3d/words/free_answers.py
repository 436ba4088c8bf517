"""Free answers to questions about space, of models that were told the form but never learned it, read by fixed rules.

An answer says directions and one amount; anything else is refused, so that it can be counted and listed.

- Directions: the words of the form and their inflections ("upwards"), wherever they stand; "towards the camera" is
  backward ("away from the camera" may be a place). Not: the name of a hand ("the right hand"), a word with another
  meaning ("pick up", "from the left", "the left cup"), one that is negated ("not left but right"). Both of a pair
  contradict each other. "still", or that nothing moved, says none.
- Amounts: a number with a unit of length (or, where degrees are asked, of angle), in digits (thousands "1,234",
  decimal comma "0,12", "1.2e-1", "1/2") or in words; "1 m 20 cm" is one. A range is its middle. Not: negative numbers,
  bounds ("less than 1 m"), speeds, what is negated. Several amounts must be the same to 3 %, as in "0.44 m (44 cm)",
  and not of several directions: "left 0.3 m, down 0.3 m" could be 0.42 m.
- Of an answer with "the answer is", what follows the last of these counts; of one that thinks aloud (`<think>`), what
  follows the thoughts.
"""

import math
import re
import unicodedata
from functools import cache
from typing import Literal

from vipa.hand3d.words.questions import CONTACT, ParsedAnswer

Unit = Literal["metres", "degrees"]

UNITS = {
    "metres": {
        r"km|kilomet(?:er|re)s?": 1000.0,
        r"m|mtrs?|met(?:er|re)s?": 1.0,
        r"dm|decimet(?:er|re)s?": 0.1,
        r"cms?|centimet(?:er|re)s?": 0.01,
        r"mms?|millimet(?:er|re)s?": 0.001,
        r"yds?|yards?": 0.9144,
        r"ft|foot|feet": 0.3048,
        r"inch(?:es)?|ins?(?=\.|\s*(?:[,;)]|$))": 0.0254,
    },
    "degrees": {r"degs?|degrees?": 1.0, r"rads?|radians?": math.degrees(1.0)},
}
SMALL = re.findall(
    r"\w+",
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen",
)
TENS = re.findall(r"\w+", "twenty thirty forty fifty sixty seventy eighty ninety")
WORDS = {word: value for value, word in enumerate(SMALL)}
WORDS |= {word: 10 * (i + 2) for i, word in enumerate(TENS)}
PARTS = {
    "half": 0.5,
    "a half": 0.5,
    "a third": 1 / 3,
    "a quarter": 0.25,
    "three quarters": 0.75,
    "two thirds": 2 / 3,
}

SIGNS = {
    **dict.fromkeys((0x2010, 0x2011, 0x2012, 0x2013, 0x2014, 0x2212), "-"),
    **{0x2044: "/", 0x00D7: "x", 0x00B1: "+-", 0x00B0: " degrees", 0x2264: "<", 0x2265: ">", 0x2032: " ft"},
    **{0x2033: " inches", 0x2019: "'", 0x201C: '"', 0x201D: '"'},
}
"""Dashes, fraction bar, times, plus or minus, degree, at most, at least, primes and quotes as plain text."""

_SAID = "|".join(sorted(WORDS, key=len, reverse=True))
_PART = "|".join(sorted(PARTS, key=len, reverse=True)).replace(" ", r"[\s-]")
_POWER = r"(?:e[+-]?\d+|\s?[x*]\s?10\s?\^?\s?[{(]?[+-]?\d+[})]?)"
_DIGITS = rf"(?:[1-9]\d{{0,2}}(?:,\d{{3}})+(?:\.\d+)?|\d+[.,]\d+|\d+|\.\d+){_POWER}?"
_WORDED = rf"(?:{_SAID})(?:[\s-]+(?:and[\s-]+)?(?:hundred|{_SAID}))*(?:\s+point(?:\s+(?:{_SAID}))+)?"
_NUMBER = (
    rf"(?:(?:\d+\s+)?\d+/\d+(?:\s+of)?(?:\s+an?)?|{_DIGITS}|(?:{_WORDED}\s+and\s+)?(?:{_PART})(?:\s+of)?(?:\s+an?)?"
    rf"|{_WORDED}|\ban?)"
)
_BEFORE = r"(?<![\w.,/])"
_NOT_AFTER = r"(?![a-z0-9^])(?!\s?(?:/|per\b|squared|cubed))"
_BOUND = re.compile(
    r"(?:\b(?:less|fewer|more|greater|farther|further|larger|smaller|closer|shorter|longer) than"
    r"|\bat (?:least|most)|\bup to|\bwithin|\bunder|\bover|\bbelow|\babove|[<>])"
    r"\s*(?:about|around|roughly|approximately|~)?\s*$"
)
_NEGATED = re.compile(r"(?:\bnot|n't|\bnever|\bno)\s+(?:(?:about|exactly|at|even|just|only|quite)\s+)*$")
_FILLERS = r"(?:(?:to|on|in|at|the|a|any|be|its|towards?|mov(?:e|es|ed|ing)|exactly|directly|really|just)\s+)*"
_PAIRS = (("left", "right"), ("up", "down"), ("backward", "forward"), ("counterclockwise", "clockwise"))
_DIRECTION = r"(?:left|right|up|down|(?:for|back)ward|(?:counter[\s-]?|anti[\s-]?)?clockwise)(?:wards?|s)?"
_BODY = "hand|wrist|arm|palm|thumb|finger|fist|eye|foot|leg"
_OBJECT = r"(?:\s+(?:it|them|(?:the|a|an)\s+(?:[a-z]+\s+)?[a-z]+))?"
_ELSE = re.compile(
    rf"\b(?:left|right)(?:\s*(?:and|or|/|,)\s*(?:left|right))?(?:\s+|-)(?:{_BODY})(?:'?s|ed|er)?\b(?!\s+(?:side|direction))"
    r"|\bthe (?:left|right)(?:-hand)?(?=\s+[a-z])(?!\s+(?:of|and|or|by|sides?|at|from|about|around|approximately|in|on"
    r"|with|for|to|is|are|was|which|when|as|relative|direction|hand\s+(?:side|direction))\b)"
    r"|(?:^|[.!?]\s+)the (?:left|right)(?:-hand)? side\b"
    r"|\bfrom\s+(?:the\s+)?(?:left|right|up|down|forward|backward)\b"
    r"|\bright\s+(?:answer|now|away|angle|amount|choice|one|order|thing|time|way)\b|\b(?:all|that's|that is) right\b"
    r"|\b(?:has|have|had) left\b|\bleft (?:over|behind)\b|\bupside[\s-]down\b|\bup (?:to|until|close)\b"
    r"|\b(?:pick|set|put|lay|sit|stand|end|make|give|look|show|break|split|clean|wake|start|open|clos|shut|speed|slow"
    rf"|writ)(?:e|s|es|ed|en|t?ing|ped)?{_OBJECT}\s+(?:up|down)\b"
)
"""Direction words that say no direction."""

_NEGATED_DIRECTION = re.compile(
    rf"(?:\bnot|n't|\bnever|\bno|\bneither|\bnor|\bwithout|\brather than|\binstead of)\s+{_FILLERS}"
    rf"{_DIRECTION}\b(?:\s+(?:or|nor)\s+{_FILLERS}{_DIRECTION}\b)*"
)
_STILL = re.compile(
    r"\bstill\b(?=\s*(?:[,.;:!]|$))|\bstationary\b|\b(?:not|n't|never)\s+(?:mov|turn|rotat)\w*"
    r"|\bno (?:mov|mot|turn|rotat)\w*"
)
_ANSWER = re.compile(r"\b(?:final answer|answer)(?: is|:)+\s*")


def read_answer(text: str, unit: Unit) -> ParsedAnswer:
    """What a free answer says, in metres or degrees. ValueError, with the reason, for one that is none."""
    plain = _plain(text)
    for part in _ANSWER.split(plain)[:0:-1]:
        try:
            return _read(part, unit)
        except ValueError:
            continue
    return _read(plain, unit)


def _read(text: str, unit: Unit) -> ParsedAnswer:
    amount = _amount(text, unit)
    words = _directions(text)
    if not words and not (_STILL.search(text) or amount == 0.0):
        raise ValueError(f"answer {text[:80]!r} names no direction")
    metres, degrees = (amount, None) if unit == "metres" else (None, amount)
    return ParsedAnswer(words, metres, degrees, bool(re.search(rf"(?<!not ){CONTACT}", text)))


def _plain(text: str) -> str:
    """Lower case, without markup and thoughts, with plain minus signs, primes and fractions."""
    text = re.sub("[\u00bc-\u00be]", lambda part: f" {unicodedata.normalize('NFKC', part[0])}", text)
    text = unicodedata.normalize("NFKC", text).translate(SIGNS).lower()
    text = re.sub(r"(\d)\s*'\s*(\d+)\s*(?:\"|'')", r"\1 ft \2 inches", text)
    text = re.sub(r"\\[,;:!~ ]", " ", text)
    text = re.sub(r"\\(?:text|mathrm)\s*{([^}]*)}", r" \1", text)
    text = text.rpartition("</think>")[2].partition("<think>")[0]
    return " ".join(re.sub(r"[*_`#$\\\"]", " ", text).split())


def _directions(text: str) -> tuple[str, ...]:
    """Those that are said, in the order of axes."""
    text = re.sub(r"\btowards? the camera\b", "backward", text)
    text = _NEGATED_DIRECTION.sub(" ", _ELSE.sub(" ", text))
    said = {_stem(word) for word in re.findall(rf"\b{_DIRECTION}\b", text)}
    for pair in _PAIRS:
        if said.issuperset(pair):
            raise ValueError(f"answer {text[:80]!r} contradicts itself: {pair[0]} and {pair[1]}")
    return tuple(word for pair in _PAIRS for word in pair if word in said)


def _stem(word: str) -> str:
    if "clockwise" in word:
        return "clockwise" if word.startswith("clockwise") else "counterclockwise"
    return next(w for pair in _PAIRS for w in pair if word.startswith(w))


@cache
def _pattern(unit: Unit) -> re.Pattern[str]:
    """An amount, with what a range begins with."""
    units = "|".join(f"(?P<u{i}>{name})" for i, name in enumerate(UNITS[unit]))
    to = r"(?:\s+to\s+|(?<=[\dm])\s*-\s*|(?(between)\s+and\s+|(?!)))"
    low = rf"(?P<between>between\s+)?(?P<low>{_NUMBER})\s*(?:{'|'.join(UNITS[unit])})?{to}"
    number = rf"(?P<minus>-|(?:minus|negative)\s+)?(?P<number>{_NUMBER})(?:\s?\+/?-\s?{_DIGITS})?"
    return re.compile(rf"{_BEFORE}(?:{low})?{number}[\s-]*(?:{units}){_NOT_AFTER}")


def _amount(text: str, unit: Unit) -> float:
    """The one amount of a text, in its unit. ValueError for none, or several."""
    scales = tuple(UNITS[unit].values())
    found: list[float] = []
    pieces: list[str] = []
    end, smallest = 0, math.inf
    for match in _pattern(unit).finditer(text):
        before = text[: match.start()]
        if re.search(r"\d[.,]?\s+$", before):
            raise ValueError(f"answer {text[:80]!r} holds a broken number")
        scale = next(s for i, s in enumerate(scales) if match[f"u{i}"])
        number = _value(match["number"])
        if match["low"] is not None:
            if re.search(r"\bfrom\s+$", before):
                raise ValueError(f"answer {text[:80]!r} says two places, no distance")
            number = (_value(match["low"]) + number) / 2
        if match["minus"] or re.search(r"(?:^|[\s(:,])-$", before):
            raise ValueError(f"answer {text[:80]!r} says a negative amount")
        pieces.append(text[end : match.start()])
        joined = found and scale < smallest and re.fullmatch(r"\s*(?:and\s*)?", text[end : match.start()])
        if joined:
            found[-1] += number * scale
        elif counts := not (_BOUND.search(before) or _NEGATED.search(before)):
            found.append(number * scale)
        end, smallest = match.end(), scale if joined or counts else 0.0
    pieces.append(text[end:])
    if not found:
        raise ValueError(f"answer {text[:80]!r} says no amount in {unit}")
    if len({words for piece in pieces if (words := _directions(piece))}) > 1:
        raise ValueError(f"answer {text[:80]!r} says an amount for each of several directions")
    if any(abs(other - found[0]) > 0.03 * max(found[0], other) for other in found[1:]):
        raise ValueError(f"answer {text[:80]!r} says more than one amount")
    return found[0]


def _value(number: str) -> float:
    """Of a number in digits or words, as `_NUMBER` finds it."""
    number = re.sub(r"(?:\s+of)?(?:\s+an?)?$", "", number) if not re.fullmatch(r"an?", number) else "one"
    if found := re.fullmatch(r"(?:(\d+)\s+)?(\d+)/(\d+)", number):
        whole, above, below = (int(part or 0) for part in found.groups())
        if below == 0:
            raise ValueError(f"answer: {number} is no number")
        return whole + above / below
    if number[0].isdigit() or number[0] == ".":
        digits, power = re.match(r"([\d.,]+)(.*)", number).groups()  # type: ignore[union-attr]
        if re.fullmatch(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d+)?", digits):
            digits = digits.replace(",", "")
        exponent = re.search(r"(?:e|10)\s?\^?\s?[{(]?([+-]?\d+)", power)
        return float(digits.replace(",", ".")) * 10.0 ** int(exponent[1] if exponent else 0)
    words = re.sub(r"[\s-]+", " ", number)
    for part, value in PARTS.items():
        if words == part or words.endswith(f" and {part}"):
            return value + (_value(words.removesuffix(f" and {part}")) if words != part else 0.0)
    whole, _, decimals = words.partition(" point ")
    total = 0
    for word in whole.replace(" and ", " ").split():
        total = total * 100 if word == "hundred" else total + WORDS[word]
    return total + (float("0." + "".join(str(WORDS[word]) for word in decimals.split())) if decimals else 0.0)
