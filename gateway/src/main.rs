//! The program `selvage-gateway`.

fn main() {}
