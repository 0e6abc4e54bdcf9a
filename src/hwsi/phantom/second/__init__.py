"""The phantom, second edition: questions that one scale decides, and questions that no single scale decides."""
