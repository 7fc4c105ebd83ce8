"""Run folders on disk: store, library, settings, model card, costs; readable without torch."""
