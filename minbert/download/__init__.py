"""Published data files: download them, and check that they are whole."""
