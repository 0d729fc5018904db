"""From a file, a directory or a hub name to checked, split and tokenised rows."""
