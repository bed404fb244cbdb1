"""A small picture model of our own: words to 64 px drawings. Start at ``drawer.Drawer``."""
