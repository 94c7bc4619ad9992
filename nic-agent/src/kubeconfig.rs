//! What a kubeconfig names: its current context, and the certificates in that.

use std::path::{Path, PathBuf};

use k8s_openapi::ByteString;
use kube::config::{AuthInfo, Cluster, Kubeconfig, KubeconfigError};

/// What its current context names.
pub fn current(kubeconfig: &Kubeconfig) -> (Option<&Cluster>, Option<&AuthInfo>) {
    let context = kubeconfig.current_context.as_ref().and_then(|current| {
        let named = kubeconfig.contexts.iter().find(|it| it.name == *current)?;
        named.context.as_ref()
    });
    let cluster = context.and_then(|context| {
        kubeconfig.clusters.iter().find(|it| it.name == context.cluster)?.cluster.as_ref()
    });
    let user = context.and_then(|context| {
        let name = context.user.as_ref()?;
        kubeconfig.auth_infos.iter().find(|it| it.name == *name)?.auth_info.as_ref()
    });
    (cluster, user)
}

/// A certificate that a kubeconfig holds, or names.
pub struct Named {
    pub key: &'static str,
    /// The file that it is in.
    pub path: PathBuf,
    pub pem: Result<Vec<u8>, String>,
}

/// The certificates in a kubeconfig's current context: the authority's and the client's. A context that has none, such as one
/// with a token, names none.
pub fn certificates(path: &Path) -> Result<Vec<Named>, KubeconfigError> {
    // Relative paths in it are made absolute as it is read.
    let kubeconfig = Kubeconfig::read_from(path)?;
    let (cluster, user) = current(&kubeconfig);
    let named = |key, data: Option<&String>, file: Option<&String>| match (data, file) {
        (Some(data), _) => {
            let bytes = serde_json::from_value::<ByteString>(data.trim().into());
            let pem = bytes.map(|it| it.0).map_err(|e| format!("no base64: {e}"));
            Some(Named { key, path: path.to_owned(), pem })
        }
        (None, Some(file)) => {
            let pem = std::fs::read(file).map_err(|e| format!("{file}: {e}"));
            Some(Named { key, path: PathBuf::from(file), pem })
        }
        (None, None) => None,
    };
    let authority = cluster.and_then(|it| {
        let (data, file) = (it.certificate_authority_data.as_ref(), it.certificate_authority.as_ref());
        named("cluster.kubeconfig certificate-authority", data, file)
    });
    let client = user.and_then(|it| {
        let (data, file) = (it.client_certificate_data.as_ref(), it.client_certificate.as_ref());
        named("cluster.kubeconfig client-certificate", data, file)
    });
    Ok(authority.into_iter().chain(client).collect())
}
