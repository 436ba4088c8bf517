"""Stage `words`: object names and texts: the clip's, an endpoint's, from contacts by template, or without words."""

from dataclasses import asdict, replace

from vipa.clips.clip import Text
from vipa.hand3d.measure.segments import wordless_texts
from vipa.hand3d.pipeline.draft import Draft
from vipa.hand3d.words.describe import texts_by_model, texts_by_template
from vipa.io.store import StageOutput


def make(draft: Draft) -> StageOutput:
    """names of objects, texts, and where the texts are from."""
    clip, words, endpoint = draft.clip, draft.config.words, draft.estimators.endpoint
    names, texts, origin = draft.estimators.names(clip), clip.texts, "clip"
    segments = () if texts else wordless_texts(clip, draft.config.hands)
    if not texts and words.texts == "auto":
        texts, origin = texts_by_template(clip), "template"
        if not texts:
            texts, origin = segments, "speed"
    elif not texts and words.texts == "endpoint":
        assert endpoint is not None
        texts, origin = texts_by_model(endpoint, clip, words.chunk, segments), endpoint.config.model
    return StageOutput({"names": names, "texts": [asdict(text) for text in texts], "origin": origin})


def take(draft: Draft, output: StageOutput | None) -> None:
    """The clip has these texts from now on."""
    assert output is not None
    draft.names = output.values["names"]
    draft.clip = replace(draft.clip, texts=tuple(Text(**text) for text in output.values["texts"]))
