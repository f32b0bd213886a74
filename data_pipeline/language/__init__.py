"""Text for language models: files or folders to token files, and associative recall."""
