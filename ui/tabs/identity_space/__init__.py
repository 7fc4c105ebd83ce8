"""The tab Identity space: people as points of a weight space, changed by sliders, found from one photograph."""
