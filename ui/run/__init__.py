"""One run on the page: its state (built from events), monitor, replay, charts, panels, cards, method views."""
