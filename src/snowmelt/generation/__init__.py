"""Generation: jobs of any number of images, which survive every stop."""
