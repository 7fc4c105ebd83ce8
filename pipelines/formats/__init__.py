"""Adapter files of other programs: detect, read and write them, and verify them with those programs' own loaders."""
