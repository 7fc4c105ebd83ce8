"""User data: photographs, captions, masks."""
