"""The library of designs that scenes take from, built from open packages. Not in the wheel."""
