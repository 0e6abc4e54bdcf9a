"""The embedded model, trained from scratch on phantom slides; ``recipes/nano.sh`` is the whole recipe.

Five steps, each reading what the former wrote: ``pixels`` (patches and cells with their truth), ``patch``
(patch encoder), ``cell`` (cell encoder), ``context`` (region, slide and text encoders), ``language``
(CCAF, projectors and language model). Every step is a module that runs: ``python -m hwsi.training.nano.patch``.
"""
