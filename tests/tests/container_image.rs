//! `packaging/container/image`: same bytes each time, what it says of itself, and that a program runs in it as it would in a
//! container: by its libraries, as nobody. For arm64, too, under emulation.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const REPO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// Says who it is; the name comes by the C library's modules. Of libraries it wants what a Rust program wants.
const SOURCE: &str = r#"
#include <pwd.h>
#include <stdio.h>
#include <unistd.h>
int main(void) {
    struct passwd *who = getpwuid(getuid());
    printf("%d:%d %s\n", getuid(), getgid(), who ? who->pw_name : "nameless");
}
"#;

fn run(command: &mut Command) -> Output {
    command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"))
}

#[track_caller]
fn ok(command: &mut Command) -> String {
    let done = run(command);
    assert!(done.status.success(), "{command:?}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// A program of this compiler's architecture, in a directory of its own.
fn program(at: &Path, compiler: &str) -> PathBuf {
    let directory = at.join(compiler);
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("probe.c"), SOURCE).unwrap();
    let out = directory.join("probe");
    let options = ["-g", "-shared-libgcc", "-Wl,--no-as-needed", "-lm", "-o"];
    ok(Command::new(compiler).args(options).arg(&out).arg(directory.join("probe.c")));
    out
}

fn image(output: &Path, programs: &[&Path]) -> Command {
    let mut command = Command::new(Path::new(REPO).join("packaging/container/image"));
    command.arg("--output").arg(output).args(programs);
    command
}

/// An archive, unpacked.
struct Layout(TempDir);

impl Layout {
    fn of(archive: &Path) -> Self {
        let directory = TempDir::new().unwrap();
        ok(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(directory.path()));
        Self(directory)
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&fs::read(self.0.path().join(path)).unwrap()).unwrap()
    }

    /// Of what is described: its place. Length and digest are held against another program's word.
    fn blob(&self, described: &Value) -> PathBuf {
        let digest = described["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let path = self.0.path().join("blobs/sha256").join(digest);
        assert_eq!(described["size"], fs::metadata(&path).unwrap().len(), "{described}");
        let summed = ok(Command::new("sha256sum").arg(&path));
        assert!(summed.starts_with(digest), "{summed}");
        path
    }

    fn described(&self, described: &Value) -> Value {
        serde_json::from_slice(&fs::read(self.blob(described)).unwrap()).unwrap()
    }

    /// Manifest and configuration for this architecture, and the file system that they make.
    fn open(&self, manifest: &Value, architecture: &str) -> (Value, TempDir) {
        let manifest = self.described(manifest);
        let config = self.described(&manifest["config"]);
        assert_eq!((&config["architecture"], &config["os"]), (&architecture.into(), &"linux".into()));
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers.len(), 1, "{manifest}");
        assert_eq!(config["rootfs"]["diff_ids"][0], layers[0]["digest"], "not compressed, so the same");
        let root = TempDir::new().unwrap();
        ok(Command::new("tar").arg("-xpf").arg(self.blob(&layers[0])).arg("-C").arg(root.path()));
        (config, root)
    }
}

/// The configuration's own program, as its own user, in this root.
#[track_caller]
fn runs(config: &Value, root: &Path, emulator: Option<&str>) {
    let config = &config["config"];
    let user = config["User"].as_str().unwrap();
    let mut command = Command::new("timeout");
    command.args(["60", "chroot", &format!("--userspec={user}")]).arg(root);
    if let Some(emulator) = emulator {
        fs::copy(emulator, root.join("emulator")).unwrap();
        command.arg("/emulator");
    }
    assert_eq!(ok(command.arg(config["Entrypoint"][0].as_str().unwrap())), "65532:65532 nonroot\n");
}

#[test]
fn an_image_of_both_architectures_runs_as_nobody_and_says_what_it_is() {
    let directory = TempDir::new().unwrap();
    let here = program(directory.path(), "gcc");
    let there = program(directory.path(), "aarch64-linux-gnu-gcc");
    let [one, again, both] = ["one.tar", "again.tar", "both.tar"].map(|name| directory.path().join(name));

    ok(&mut image(&one, &[&here]));
    // Elsewhere, and newer.
    let copy = directory.path().join("probe");
    fs::write(&copy, fs::read(&here).unwrap()).unwrap();
    ok(&mut image(&again, &[&copy]));
    assert!(fs::read(&one).unwrap() == fs::read(&again).unwrap(), "not the same bytes");
    ok(&mut image(&both, &[&there, &here]));

    let version = format!("drawbridge.dev/probe:{}", env!("CARGO_PKG_VERSION"));
    let layout = Layout::of(&one);
    let top = &layout.json("index.json")["manifests"][0];
    assert_eq!(top["annotations"]["io.containerd.image.name"], version);
    assert_eq!(layout.json("manifest.json")[0]["RepoTags"][0], version);
    let (config, root) = layout.open(top, "amd64");
    let labels = &config["config"]["Labels"];
    for (label, value) in
        [("version", env!("CARGO_PKG_VERSION")), ("licenses", "Apache-2.0"), ("title", "probe")]
    {
        assert_eq!(labels[format!("org.opencontainers.image.{label}")], value, "{labels}");
    }
    runs(&config, root.path(), None);
    let listed = ok(Command::new("find").arg(root.path()).args(["-perm", "/6022"]));
    assert_eq!(listed, "", "set-user-ID, or others may write");
    let authorities = fs::read_to_string(root.path().join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    assert!(authorities.matches("-----BEGIN CERTIFICATE-----").count() > 50);
    let debian = fs::read_to_string(root.path().join("var/lib/dpkg/status.d/libc6")).unwrap();
    assert!(debian.contains("Source: glibc ("), "{debian}");

    let layout = Layout::of(&both);
    let index = layout.described(&layout.json("index.json")["manifests"][0]);
    for (manifest, architecture) in index["manifests"].as_array().unwrap().iter().zip(["amd64", "arm64"]) {
        assert_eq!(manifest["platform"]["architecture"], architecture);
        let (config, root) = layout.open(manifest, architecture);
        runs(&config, root.path(), (architecture == "arm64").then_some("/usr/bin/qemu-aarch64-static"));
    }
}

#[test]
fn what_makes_no_image_is_refused() {
    let directory = TempDir::new().unwrap();
    let here = program(directory.path(), "gcc");
    let script = directory.path().join("probe");
    fs::write(&script, "#!/bin/sh\n").unwrap();
    for (programs, says) in [
        (vec![script.as_path()], "probe is no program of amd64 or arm64"),
        (vec![Path::new("/nonexistent")], "nonexistent is no program of amd64 or arm64"),
        (vec![here.as_path(), here.as_path()], "one program, once for each architecture"),
    ] {
        let done = run(&mut image(&directory.path().join("out"), &programs));
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(!done.status.success() && said.contains(says), "{said}");
        assert!(!directory.path().join("out").exists());
    }
}
