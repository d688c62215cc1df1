"""The user's own problems: where they lie (`source`), how they are read (`readers`), which column is what (`mapping`), what a row means (`rows`)."""
