"""The services of the Studio: training, library, generation, inspection, import and export, experiments."""
