"""Scripts that made all shipped assets: the illustrated world and the training of the embedded base."""
