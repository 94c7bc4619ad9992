//! `packaging/host-shim/host-shim-vfs` on a directory in the place of sysfs; `e2e_vf_return` has it make VFs of a real kernel.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging/host-shim/host-shim-vfs");
const PF: &str = "0000:3b:00.0";
const OTHER: &str = "0000:3b:00.1";

struct Server(TempDir);

impl Server {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn device(&self, pf: &str) -> PathBuf {
        self.0.path().join("bus/pci/devices").join(pf)
    }

    fn with(self, pf: &str, now: &str, total: &str) -> Self {
        let device = self.device(pf);
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("sriov_totalvfs"), format!("{total}\n")).unwrap();
        fs::write(device.join("sriov_numvfs"), format!("{now}\n")).unwrap();
        self
    }

    fn number(&self, pf: &str) -> String {
        fs::read_to_string(self.device(pf).join("sriov_numvfs")).unwrap().trim().to_owned()
    }

    fn command(&self, file: &str, wait: &str) -> Command {
        let path = self.0.path().join("vfs.conf");
        fs::write(&path, file).unwrap();
        let mut command = Command::new(SCRIPT);
        command.arg(path).env("HOST_SHIM_SYSFS", self.0.path()).env("HOST_SHIM_VFS_WAIT", wait);
        command
    }

    fn run(&self, file: &str) -> (Option<i32>, String) {
        said(&self.command(file, "0").output().unwrap())
    }
}

fn said(done: &Output) -> (Option<i32>, String) {
    assert!(done.stdout.is_empty());
    (done.status.code(), String::from_utf8(done.stderr.clone()).unwrap())
}

#[test]
fn each_pf_has_its_number_and_keeps_it() {
    let server = Server::new().with(PF, "0", "127").with(OTHER, "0", "64");
    let file = format!("# a comment\n\n{PF} 32 # the first port\n{OTHER}\t64");
    let (code, text) = server.run(&file);
    assert_eq!(code, Some(0), "{text}");
    assert_eq!([server.number(PF), server.number(OTHER)], ["32", "64"]);
    let (code, text) = server.run(&file);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(&format!("{PF} has its 32 VFs")) && !text.contains("made"), "{text}");
}

#[test]
fn vfs_that_pods_may_have_are_never_taken_away() {
    let server = Server::new().with(PF, "16", "127").with(OTHER, "0", "64");
    let (code, text) = server.run(&format!("{PF} 32\n{OTHER} 8\n"));
    assert_eq!(code, Some(1));
    assert!(text.contains("has 16 VFs, not 32: drain the node"), "{text}");
    assert_eq!([server.number(PF), server.number(OTHER)], ["16", "8"], "one does not stop the other");
}

#[test]
fn what_cannot_be_is_said_with_its_remedy() {
    let server = Server::new().with(PF, "0", "8");
    fs::create_dir_all(server.device(OTHER)).unwrap();
    for (file, says) in [
        (format!("{PF} 9"), "9 VFs are wanted, and it has at most 8: raise NUM_OF_VFS"),
        (format!("{OTHER} 9"), "has no sriov_numvfs: is SRIOV_EN set"),
        ("0000:af:00.0 9".to_owned(), "there is no 0000:af:00.0: is this the PF's address"),
    ] {
        let (code, text) = server.run(&file);
        assert_eq!(code, Some(1), "{text}");
        assert!(text.contains(says), "{text}");
    }
    assert_eq!(server.number(PF), "0");
}

#[test]
fn a_file_that_is_wrong_changes_nothing() {
    let server = Server::new().with(PF, "0", "127");
    for (line, says) in [
        ("3b:00.0 32", "\"3b:00.0\" is no PCI address"),
        ("0000:3B:00.0 32", "is no PCI address"),
        ("0000:3b:00.0/../x 32", "is no PCI address"),
        ("*", "\"*\" is no PCI address"),
        ("0000:3b:00.1", "\"\" is no number of VFs"),
        ("0000:3b:00.1 many", "\"many\" is no number of VFs"),
        ("0000:3b:00.1 -1", "\"-1\" is no number"),
        ("0000:3b:00.1 0", "\"0\" is no number"),
        ("0000:3b:00.1 032", "\"032\" is no number"),
        ("0000:3b:00.1 8 9", "\"9\" is too much"),
        ("0000:3b:00.0 8", "0000:3b:00.0 stands there twice"),
    ] {
        let (code, text) = server.run(&format!("{PF} 32\n{line}\n"));
        assert_eq!(code, Some(78), "{line}: {text}");
        assert!(text.contains("line 2: ") && text.contains(says), "{line}: {text}");
        assert_eq!(server.number(PF), "0", "{line}");
    }
    let (code, text) = server.run("# nothing\n");
    assert_eq!((code, text.contains("names no PF")), (Some(78), true), "{text}");
    let missing = Command::new(SCRIPT).arg(server.0.path().join("none")).output().unwrap();
    assert_eq!(said(&missing).0, Some(78));
}

#[test]
fn a_pf_that_comes_late_is_waited_for() {
    let server = Server::new();
    let mut running = server.command(&format!("{PF} 4"), "60").spawn().unwrap();
    assert!(running.try_wait().unwrap().is_none());
    let server = server.with(PF, "0", "8");
    assert_eq!(running.wait().unwrap().code(), Some(0));
    assert_eq!(server.number(PF), "4");
}
