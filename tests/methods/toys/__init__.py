"""Toy versions of future methods. Each is a single module with a config and a spec; no other module refers to it."""
