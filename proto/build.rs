//! Compiles the contract without protoc.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto/nic_agent.proto");
    let set = protox::compile(["proto/nic_agent.proto"], ["proto"])?;
    tonic_prost_build::configure().compile_fds(set)?;
    Ok(())
}
