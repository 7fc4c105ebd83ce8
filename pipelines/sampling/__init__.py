"""The sampler, stacks of adapters, image metadata, comparison grids, block ablation."""
