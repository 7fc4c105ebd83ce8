"""Experiments: several runs on the same photographs and one evaluation of all of them, started with one click.

``store`` is the experiment's folder, ``settings`` the settings, ``method_comparison`` and ``block_comparison`` the two
kinds, ``measure`` generates and scores (the only module that needs torch), ``report``, ``scatter`` and ``export`` present
the results. :mod:`pipelines.services.experiments` runs them.
"""
