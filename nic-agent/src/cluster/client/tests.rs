use serde_json::{Value, json};

use super::*;

/// A kubeconfig that nothing is wrong with but what the change makes of it.
async fn load(change: impl FnOnce(&mut Value)) -> Result<Access, String> {
    let dir = tempfile::tempdir().unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let ca = rcgen::CertificateParams::new(vec!["ca".to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    std::fs::write(dir.path().join("ca.pem"), ca).unwrap();
    std::fs::write(dir.path().join("token"), "secret").unwrap();
    let mut kubeconfig = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "https://192.0.2.1:6443", "certificate-authority": "ca.pem"}}],
        "users": [{"name": "u", "user": {"tokenFile": "token"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    });
    change(&mut kubeconfig);
    let path = dir.path().join("kubeconfig");
    std::fs::write(&path, kubeconfig.to_string()).unwrap();
    let loaded = Access::load(&path).await.map_err(|e| e.to_string());
    if let Err(error) = &loaded {
        assert!(error.contains(path.to_str().unwrap()), "{error}");
    }
    loaded
}

fn cluster(kubeconfig: &mut Value) -> &mut Value {
    &mut kubeconfig["clusters"][0]["cluster"]
}

#[tokio::test]
async fn files_are_found_beside_the_kubeconfig() {
    let access = load(|_| {}).await.unwrap();
    assert_eq!(access.config.cluster_url, "https://192.0.2.1:6443/");
    assert!(access.config.root_cert.is_some() && access.config.proxy_url.is_none());
    assert!(!access.config.default_retry && !access.config.accept_invalid_certs);
}

#[tokio::test]
async fn what_would_weaken_the_connection_is_refused() {
    for (change, says) in [
        ((|it| cluster(it)["server"] = "http://192.0.2.1:8080".into()) as fn(&mut Value), "no https server"),
        (
            |it| drop(cluster(it).as_object_mut().unwrap().remove("certificate-authority")),
            "no certificate-authority",
        ),
        (|it| cluster(it)["insecure-skip-tls-verify"] = true.into(), "insecure-skip-tls-verify"),
        (|it| cluster(it)["proxy-url"] = "http://192.0.2.9".into(), "proxy-url"),
        (|it| cluster(it)["certificate-authority"] = "gone.pem".into(), "gone.pem"),
        (|it| it["users"][0]["user"] = json!({}), "no credential"),
        (
            |it| {
                it["users"][0]["user"] =
                    json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "x"}});
            },
            "from a program",
        ),
        (|it| it["users"][0]["user"] = json!({"tokenFile": "gone"}), "gone"),
        (|it| it["current-context"] = "other".into(), "other"),
        (|it| *it = "nonsense".into(), "kubeconfig"),
    ] {
        let error = load(change).await.unwrap_err();
        assert!(error.contains(says), "{says}: {error}");
    }
}
