//! The program `selvage-worker`.

fn main() {}
