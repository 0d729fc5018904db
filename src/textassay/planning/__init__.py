"""What a job will need: parameters, memory, disk and time, before anything is started."""
