"""Scores with intervals, baselines, pictures and reports."""
