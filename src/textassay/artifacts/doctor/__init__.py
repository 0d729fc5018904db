"""What is wrong with a directory, and what to do about it."""
