"""The stories: sequences of the platform's parts, one file for each main make target."""
