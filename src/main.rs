//! The binary only parses and calls.
fn main() {}
