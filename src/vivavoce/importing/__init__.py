"""Published checkpoints -> our weight folders: read without running anything, mapped key by key, or refused."""
