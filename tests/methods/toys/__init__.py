"""Methods to come, each in small: one module with a config, a spec and what a method states; nothing else knows them."""
