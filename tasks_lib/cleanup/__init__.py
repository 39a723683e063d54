"""What runs leave behind: finding it, removing it, auditing it."""
