"""A benchmark's records before a model: which slides, what is asked of them, what was answered, what that is worth."""
