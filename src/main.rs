//! uproar
fn main(){}
