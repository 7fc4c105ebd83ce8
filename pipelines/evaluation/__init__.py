"""Measurements: metrics, the embedded base's encoders, automatic tags, style."""
