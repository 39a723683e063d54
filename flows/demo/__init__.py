"""What `coordinator demo` works with: a repository, scripted agents, and a scripted model."""
