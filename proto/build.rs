//! Generates the message types from `uproar/v1/uproar.proto` without `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=uproar/v1/uproar.proto");
    let descriptors = protox::compile(["uproar/v1/uproar.proto"], ["."])?;
    prost_build::Config::new()
        .bytes(["."])
        .btree_map(["."])
        .compile_fds(descriptors)?;
    Ok(())
}
