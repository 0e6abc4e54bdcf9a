"""What training makes small: pure functions on tensors and texts, without files, models or clocks."""
