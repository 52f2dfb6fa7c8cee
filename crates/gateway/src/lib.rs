//! Comes with its parts.
