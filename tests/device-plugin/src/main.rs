//! `device-plugin RESOURCE PF [RESERVED]`: offers the VFs of the PCI function PF (1001:03:00.0) to kubelet as RESOURCE, all but
//! the first RESERVED.
//!
//! A device's id is its PCI address, and a container learns what it has from `PCIDEVICE_<RESOURCE>`: both as
//! sriov-network-device-plugin does it, so that whatever reads kubelet's pod-resources finds the same. It ends when kubelet
//! removes its socket, as kubelet does when it starts: its supervisor starts it again, and it registers anew.
#![forbid(unsafe_code)]

mod plugin;
mod vfs;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::{Endpoint, Server};

/// The messages, generated from `proto/deviceplugin.proto`.
pub mod v1beta1 {
    #![allow(clippy::all, clippy::pedantic, missing_docs)]
    tonic::include_proto!("v1beta1");
}

use v1beta1::{
    DevicePluginOptions, RegisterRequest, device_plugin_server::DevicePluginServer,
    registration_client::RegistrationClient,
};

/// kubelet's directory for sockets of device plugins.
const DIRECTORY: &str = "/var/lib/kubelet/device-plugins";
const KUBELET: &str = "kubelet.sock";

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (resource, pf, reserved) = match arguments.as_slice() {
        [resource, pf] => (resource, pf, 0),
        [resource, pf, reserved] => (resource, pf, reserved.parse().context("RESERVED is a number")?),
        _ => bail!("device-plugin RESOURCE PF [RESERVED]"),
    };
    let vfs = vfs::of(&Path::new("/sys/bus/pci/devices").join(pf), reserved)?;
    if vfs.is_empty() {
        bail!("{pf} has no VFs to offer");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(Path::new(DIRECTORY), resource, vfs))
}

/// Serves and registers; returns when the socket is gone.
async fn run(directory: &Path, resource: &str, vfs: Vec<String>) -> anyhow::Result<()> {
    let name = format!("{}.sock", resource.replace('/', "_"));
    let socket = directory.join(&name);
    match std::fs::remove_file(&socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    let listener = UnixListener::bind(&socket).with_context(|| socket.display().to_string())?;
    println!("offering {} VFs as {resource}: {vfs:?}", vfs.len());
    let server = Server::builder()
        .add_service(DevicePluginServer::new(plugin::Plugin::new(resource, vfs)))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), gone(socket));
    let (served, registered) = tokio::join!(server, register(directory, resource, name));
    registered?;
    served?;
    bail!("kubelet removed the socket: registering again")
}

/// kubelet dials back before it answers, so this runs beside the server.
async fn register(directory: &Path, resource: &str, endpoint: String) -> anyhow::Result<()> {
    let kubelet = directory.join(KUBELET);
    let channel = Endpoint::from_shared(format!("unix://{}", kubelet.display()))?.connect().await?;
    let request = RegisterRequest {
        version: "v1beta1".to_owned(),
        endpoint,
        resource_name: resource.to_owned(),
        options: Some(DevicePluginOptions::default()),
    };
    RegistrationClient::new(channel).register(request).await?;
    println!("kubelet took {resource}");
    Ok(())
}

async fn gone(socket: PathBuf) {
    while socket.exists() {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
