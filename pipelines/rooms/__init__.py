"""The rooms behind the one door: each a part of :class:`pipelines.studio.Studio`, which is all that callers import."""
