"""Training methods: ``specs`` is the registry (no torch), ``core`` defines the protocol, and each method has a module."""
