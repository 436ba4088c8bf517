"""Motions put into words, against the text that the motion is under (motion translation, section 3.2.1).

Texts are compared as sequences of lower-case words. Exact: the share of answers with the same words. ROUGE-L:
2 m / (a + b) with m the length of the longest common subsequence of answer (a words) and truth (b words). Verb, object
and side: the share that names the truth's first verb, its first object and its hand, among the records whose truth has
one (`parse`). An empty answer scores 0. Intervals are bootstrapped over clips.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vipa.benchmarks.asking import Asking, Exam
from vipa.benchmarks.results import TranslationResult
from vipa.benchmarks.statistics import clustered_mean
from vipa.hand3d.dataset.reader import Hand3D
from vipa.hand3d.dataset.records import ActionRecord
from vipa.hand3d.words.questions import plain_task
from vipa.io.progress import counter

TASK = "motion_translation"
SCORES = ("exact", "rouge_l", "verb", "object", "side")
AFTER_OBJECT = frozenset(
    re.findall(
        r"\w+",
        "about above across against along and around aside at away back before behind below beside between by down for "
        "from in inside into near next of off on onto open out over past so through to together toward towards under "
        "until up upside using while with",
    )
)
"""Words that end the name of an object."""


@dataclass(frozen=True)
class Said:
    """What a text says. verb: in its base form. object: the words after its first article. side: left, right, both."""

    verb: str | None
    object: str | None
    side: str | None


@dataclass(frozen=True)
class ScoredTranslation:
    """One record with its answer; scores 0..1, None where the truth names no such thing."""

    id: str
    clip_id: str
    truth: str
    answer: str
    exact: float
    rouge_l: float
    verb: float | None
    object: float | None
    side: float | None


def words(text: str) -> list[str]:
    """Lower-case words, without punctuation."""
    return re.findall(r"[a-z0-9]+(?:['-][a-z0-9]+)*", text.lower())


def parse(text: str) -> Said:
    """Verb, object and side of a text: an instruction ("put the cup on the plate") or a description ("the left hand
    lets go of the cup")."""
    text = " ".join(words(text))
    side = re.search(r"\b(left|right|both) hands?\b", text)
    task = words(plain_task(re.sub(r"^(the )?both hands ", "", text)))
    article = next((i for i, word in enumerate(task) if word in ("the", "a", "an", "some")), None)
    name: list[str] = []
    for word in task[article + 1 :] if article is not None else ():
        if word in AFTER_OBJECT:
            break
        name.append(word)
    return Said(task[0] if task else None, " ".join(name) or None, side[1] if side else None)


def rouge_l(answer: Sequence[str], truth: Sequence[str]) -> float:
    """2 m / (a + b) of two sequences of words, m the length of their longest common subsequence; 0 without words."""
    row = np.zeros(len(truth) + 1, dtype=np.int64)
    for word in answer:
        match = np.where([word == other for other in truth], row[:-1] + 1, 0)
        row = np.maximum.accumulate(np.concatenate([[0], np.maximum(row[1:], match)]))
    return float(2 * row[-1] / (len(answer) + len(truth))) if len(answer) + len(truth) else 0.0


def score(records: Sequence[ActionRecord], answers: Sequence[str]) -> list[ScoredTranslation]:
    """Every record with the scores of its answer."""
    scored = []
    for record, answer in zip(records, answers, strict=True):
        said, true = words(answer), words(record.response)
        a, b = parse(answer), parse(record.response)
        parts = {
            name: None if getattr(b, name) is None else float(getattr(a, name) == getattr(b, name))
            for name in ("verb", "object", "side")
        }
        scored.append(
            ScoredTranslation(
                record.id,
                record.clip_id,
                record.response,
                answer,
                exact=float(said == true),
                rouge_l=rouge_l(said, true),
                **parts,
            )
        )
    return scored


def summarise(name: str, protocol: dict, scored: Sequence[ScoredTranslation]) -> TranslationResult:
    """Means and intervals. ValueError for no records."""
    if not scored:
        raise ValueError("translations: there are no motion translation records to score in this split")
    means, counts = {}, {}
    for field in SCORES:
        some = [(value, s.clip_id) for s in scored if (value := getattr(s, field)) is not None]
        counts[field] = len(some)
        if some:
            values, clips = zip(*some)
            means[field] = clustered_mean(values, clips)
    return TranslationResult(name, protocol, len(scored), sum(not words(s.answer) for s in scored), means, counts)


TRANSLATIONS = Exam(
    name="translations",
    table="action",
    records=lambda data, split: [record for record in data.action(split) if record.task == TASK],
    score=lambda data, records, answers: score(records, answers),
    summarise=summarise,
)
evaluate_translations = TRANSLATIONS.ask


@dataclass(frozen=True)
class Settings(Asking):
    """Puts wrist motions into words and compares them with the texts that the motions are under.

    Baseline: `constant`, the most common text of the train split.
    """


def run(settings: Settings) -> TranslationResult:
    """Asks the model or the baseline."""
    if settings.model == ConstantTranslator.name:
        translator = ConstantTranslator(list(Hand3D(settings.data).action("train")))
    else:
        from vipa.benchmarks.answering import (
            ModelAnswerer,
            Translations,
        )  # torch takes seconds, help does not need it

        translator = Translations(ModelAnswerer(settings.model, settings.data))
    with counter("translating", "motions") as count:
        return evaluate_translations(translator, **settings.asked(count))


class ConstantTranslator:
    """Says of every motion the most common text of the records it was fitted on."""

    name = "constant"

    def __init__(self, records: Sequence[ActionRecord]):
        texts = Counter(record.response for record in records if record.task == TASK)
        if not texts:
            raise ValueError(
                "translations: no motion translation records to fit the constant on (is the train split empty?)"
            )
        self.text = min(texts, key=lambda text: (-texts[text], text))

    @property
    def identity(self) -> dict[str, Any]:
        return {"baseline": "constant", "text": self.text}

    def __call__(self, records: Sequence[ActionRecord]) -> list[str]:
        return [self.text] * len(records)
