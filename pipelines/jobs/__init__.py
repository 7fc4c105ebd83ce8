"""Scheduling and running jobs on devices: worker, queue, devices, model cache, training job."""
