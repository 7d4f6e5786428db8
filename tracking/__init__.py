"""From queries to tracks: of a model, of the stored flow alone, or of both; and the tracks file."""
