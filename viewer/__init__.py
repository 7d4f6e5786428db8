"""A page in the browser: the video, the track of any point, corrections by hand; served live or saved as one file."""
