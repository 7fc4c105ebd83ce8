"""Experiments: several runs on the same photographs and one evaluation of all of them, started with one click.

``store`` reads and writes an experiment's folder and ``settings`` defines its settings. ``method_comparison`` and
``block_comparison`` are the two kinds of experiments. ``measure`` generates and scores pictures (the only module that
needs torch). ``report``, ``scatter`` and ``export`` present the results. :mod:`pipelines.services.experiments` runs the
experiments.
"""
