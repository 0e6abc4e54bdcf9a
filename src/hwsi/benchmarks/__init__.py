"""What a model is worth: slides with known truth, questions, controls, tables."""
