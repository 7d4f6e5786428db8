"""The tests, in the packages' own folders; `helpers` is what several of them share."""
