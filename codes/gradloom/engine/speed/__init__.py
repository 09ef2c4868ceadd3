"""How networks are laid out in memory and run: as the options say, or as is quickest here."""
