"""What a user takes home: track files, point clouds, depth maps, drawings and videos. Pure functions and writers."""
