"""The embedded model, trained from scratch on phantom slides; ``recipes/nano.sh`` is the whole recipe.

Each step is a module that runs (``python -m hwsi.training.nano.patch``) and reads what the former wrote: ``pixels``
(patches and cells with their truth), ``patch`` and ``cell`` (encoders), ``features`` and ``regenerate`` (feature
files); then ``words`` (the language model learns to read) and the four stages: ``align`` with ``refresh``, ``project``
(as anybody runs it), ``instruct``, ``prefer`` (as anybody runs it); last ``pack``.

``context`` and ``language`` hold what its stages add to those that anybody runs.
"""
