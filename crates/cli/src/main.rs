//! Comes with its parts.

fn main() {}
