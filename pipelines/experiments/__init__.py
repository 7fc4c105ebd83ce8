"""Experiments: several runs on the same photographs and one evaluation of all of them, from one click.

``core`` keeps an experiment's folder, ``plan`` says what all kinds share, ``methods`` and ``blocks`` are the kinds,
``measure`` draws and scores (the only part that needs torch), ``figures`` makes pictures of the results.
:mod:`pipelines.services.experiments` starts and follows them.
"""
