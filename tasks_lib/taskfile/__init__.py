"""Task files: parsing them, and changing single lines of them."""
