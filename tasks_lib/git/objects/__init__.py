"""Git's objects, read and written without starting git for each."""
