"""Runs on a cluster: what a job asks Slurm for, and what is done with what Slurm gives."""
