"""Benchmarks for the quality and speed targets of the program; each module prints a table."""
