"""The material of `coordinator demo`: a repository, scripted agents, and a scripted model."""
