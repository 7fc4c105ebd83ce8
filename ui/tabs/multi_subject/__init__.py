"""The tab Multi-subject: trains two or three subjects to appear in one picture."""
