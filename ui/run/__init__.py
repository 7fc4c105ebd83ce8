"""One run on the page: its state folded from events, monitor, replay, charts, panels, cards, method views."""
