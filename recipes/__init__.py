"""How everything that Atelier ships was made: the illustrated world and the training of the embedded base."""
