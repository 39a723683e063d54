"""Task files: parsing them and editing single lines."""
