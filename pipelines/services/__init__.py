"""What the Studio offers: training, library, generation, inspection, import and export, experiments."""
