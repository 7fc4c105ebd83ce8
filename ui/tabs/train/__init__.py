"""The tab Train: form, captions, monitor, playground."""
