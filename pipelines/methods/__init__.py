"""How adapters are learned: ``specs`` is the registry (no torch), ``core`` the contract, then one module per method."""
