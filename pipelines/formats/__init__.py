"""Adapter files of other programs: recognised, read, written, and checked with those programs' own loaders."""
