"""The command line: ``hwsi <verb>``; thin, no logic of its own."""
