"""The Trainer around a run, its checkpoints, and the procedure of a whole run."""
