"""One module or package per tab."""
