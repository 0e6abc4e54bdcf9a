"""The stages of training: what each starts from, learns and gives."""
