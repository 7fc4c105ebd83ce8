"""Evaluation: metrics, the encoders for the embedded base model, automatic tags, and the style score."""
