"""Measurements of what the program promises; each is a module that prints a table."""
