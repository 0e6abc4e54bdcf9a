"""What is measured of evidence, abstention and selection, on held-out phantoms whose truth is known."""
