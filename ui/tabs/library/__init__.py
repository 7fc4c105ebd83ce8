"""The tab Library."""
