"""Music by rules, for the mood of a prompt: no model makes any of it, and it is labelled so."""
