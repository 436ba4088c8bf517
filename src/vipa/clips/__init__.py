"""Human video clips: one typed record, one reader per source."""

from vipa.clips.clip import Clip, ClipError, Frames, Hand, Mano, ObjectTrack, Text

__all__ = ["Clip", "ClipError", "Frames", "Hand", "Mano", "ObjectTrack", "Text"]
