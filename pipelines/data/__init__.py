"""What people bring: photographs, captions, masks."""
