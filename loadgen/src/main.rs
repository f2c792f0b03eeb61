//! loadgen
fn main(){}
