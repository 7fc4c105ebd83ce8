"""Work that waits for a device or occupies it: worker, queue, devices, model cache, training job."""
