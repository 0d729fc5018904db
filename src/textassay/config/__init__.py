"""One schema, and the ways a setting reaches it: job files, environment, flags."""
