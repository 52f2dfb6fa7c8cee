"""The scenes with a real hub, by what they are about."""
