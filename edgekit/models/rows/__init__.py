"""The rows of the zoo, one family a file: facts only, no torch."""
