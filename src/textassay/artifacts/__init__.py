"""Directories that can predict, and the hallmark that proves them."""
