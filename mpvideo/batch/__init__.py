"""Many videos in one go: planned from lists or job files, named, made, and never half done."""
