"""Git objects, read and written without starting a git process for each."""
