use super::*;

fn parse(args: &[&str]) -> Result<Options, UsageError> {
    Options::parse(args.iter().map(|arg| (*arg).to_owned()))
}

#[test]
fn the_command_line_is_read_or_refused() {
    let pci: PciAddress = "0000:03:00.2".parse().unwrap();
    assert_eq!(parse(&[]), Ok(Options { state_dir: DEFAULT_STATE.into(), devices: vec![] }));
    assert_eq!(
        parse(&["--state-dir", "/x", "0000:03:00.2"]),
        Ok(Options { state_dir: "/x".into(), devices: vec![pci] })
    );
    assert_eq!(parse(&["ens1v3"]), Err(UsageError::Argument("ens1v3".into())));
    for path in [&["--state-dir"][..], &["--state-dir", "x"]] {
        assert!(matches!(parse(path), Err(UsageError::StateDir(_))));
    }
}
