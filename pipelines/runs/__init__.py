"""Run folders on disk: store, library, settings, presets, model card, costs; readable without torch."""
