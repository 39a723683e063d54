"""What opencode's server answers and streams, translated."""
