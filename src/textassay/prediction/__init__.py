"""Answers for texts: on the terminal, through pipes, and for whole files."""
