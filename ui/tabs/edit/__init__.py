"""The tab Edit: learns one photograph and edits it by words."""
