//! Compiles kubelet's pod-resources messages without protoc.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/podresources.proto");
    let set = protox::compile(["proto/podresources.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(set)?;
    Ok(())
}
