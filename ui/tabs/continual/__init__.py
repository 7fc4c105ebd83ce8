"""The tab Continual: concepts learned one after another, and what the earlier ones keep."""
