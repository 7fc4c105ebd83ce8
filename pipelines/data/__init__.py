"""User data: photographs, captions and masks."""
