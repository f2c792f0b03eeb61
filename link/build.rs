//! Generates the messages of the link without `protoc`. What clients say and hear travels in
//! frames of `uproar.v1`, as it is.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=uproar/link/v1/link.proto");
    println!("cargo:rerun-if-changed=../proto/uproar/v1/uproar.proto");
    let descriptors = protox::compile(["uproar/link/v1/link.proto"], [".", "../proto"])?;
    let mut config = prost_build::Config::new();
    config.bytes(["."]).extern_path(".uproar.v1", "::uproar_proto::v1");
    config.compile_fds(descriptors)?;
    Ok(())
}
