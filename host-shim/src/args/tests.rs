use super::*;

fn environment(pairs: &[(&str, &str)]) -> Environment {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn every_command_is_known_and_nothing_else() {
    for (text, command) in [
        ("ADD", Command::Add),
        ("DEL", Command::Del),
        ("CHECK", Command::Check),
        ("STATUS", Command::Status),
        ("GC", Command::Gc),
        ("VERSION", Command::Version),
    ] {
        assert_eq!(environment(&[("CNI_COMMAND", text)]).command(), Ok(command));
    }
    assert!(matches!(environment(&[("CNI_COMMAND", "add")]).command(), Err(ArgsError::Invalid { .. })));
    assert!(matches!(environment(&[]).command(), Err(ArgsError::Missing { name: "CNI_COMMAND", .. })));
}

#[test]
fn container_and_interface_are_harmless_as_names() {
    let sandbox =
        |id: &str, name: &str| environment(&[("CNI_CONTAINERID", id), ("CNI_IFNAME", name)]).sandbox();
    assert!(sandbox("cnitool-77383ca0a0715733ca6f", "eth0").is_ok());
    let long = "a".repeat(129);
    for id in ["", "../x", "-x", "a/b", "a:b", "a b", long.as_str()] {
        assert!(sandbox(id, "eth0").is_err(), "{id:?}");
    }
    for name in ["", ".", "..", "a/b", "a:b", "a b", "a\u{7}", "sixteen-letters-"] {
        assert!(sandbox("a", name).is_err(), "{name:?}");
    }
    assert!(sandbox("a", "fifteen-letters").is_ok());
}

#[test]
fn the_pod_is_read_from_cni_args() {
    let pod = |args: &str| environment(&[("CNI_ARGS", args)]).pod();
    let full = "K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;K8S_POD_UID=c;K8S_POD_INFRA_CONTAINER_ID=d";
    assert_eq!(pod(full), Ok(Pod { namespace: "a".into(), name: "b".into(), uid: "c".into() }));
    assert!(matches!(
        pod("K8S_POD_NAMESPACE=a;K8S_POD_NAME=b"),
        Err(ArgsError::Missing { name: "K8S_POD_UID", .. })
    ));
    assert!(matches!(pod(""), Err(ArgsError::Missing { .. })));
    assert!(matches!(pod("nonsense"), Err(ArgsError::Invalid { .. })));
}

#[test]
fn unknown_arguments_need_leave() {
    let pod = |args: &str| {
        let args = format!("K8S_POD_NAMESPACE=a;K8S_POD_NAME=b;K8S_POD_UID=c;{args}");
        environment(&[("CNI_ARGS", &args)]).pod()
    };
    assert_eq!(pod("MORE=1"), Err(ArgsError::UnknownKey { key: "MORE".into() }));
    assert_eq!(pod("MORE=1;IgnoreUnknown=0"), Err(ArgsError::UnknownKey { key: "MORE".into() }));
    for leave in ["1", "true", "True"] {
        assert!(pod(&format!("IgnoreUnknown={leave};MORE=1")).is_ok());
    }
}
