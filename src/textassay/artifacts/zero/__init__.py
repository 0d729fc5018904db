"""ZeRO checkpoints of DeepSpeed, and what the consolidator makes of them, without DeepSpeed."""
