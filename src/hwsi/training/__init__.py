"""How models are trained. ``nano/`` trains the embedded model from scratch on phantom slides."""
