//! Pods of the lab: made, attached by a real CNI call, and gone when dropped.

use serde_json::Value;

use crate::command::{Output, place, vm};
use crate::netns::Located;

/// What kind of pod.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    pub name: &'a str,
    /// `host1` or `host2`.
    pub host: &'a str,
    pub vf: u16,
    /// Further options of `lab pod create`.
    pub options: &'a [&'a str],
}

#[derive(Debug)]
pub struct Pod {
    pub name: String,
    pub host: String,
    pub vf: u16,
    pub uid: String,
    pub container: String,
    pub mac: String,
    pub ip: String,
    pub ip6: String,
    pub lsp: String,
    gone: bool,
}

impl Pod {
    /// All but the CNI call.
    #[track_caller]
    pub fn create(wish: &Wish<'_>) -> Self {
        let vf = wish.vf.to_string();
        let mut arguments = vec!["/lab/pod", "create", wish.name, "--on", wish.host, "--vf", &vf];
        arguments.extend(wish.options);
        vm(&arguments).ok();
        let shown = vm(&["/lab/pod", "show", wish.name]).ok();
        let shown: Value = serde_json::from_str(&shown).expect("lab pod show prints JSON");
        let text = |key: &str| shown[key].as_str().unwrap_or_else(|| panic!("{key} in {shown}")).to_owned();
        Self {
            name: wish.name.to_owned(),
            host: wish.host.to_owned(),
            vf: wish.vf,
            uid: text("uid"),
            container: text("container"),
            mac: text("mac"),
            ip: text("ip"),
            ip6: text("ip6"),
            lsp: text("lsp"),
            gone: false,
        }
    }

    /// Created and attached.
    #[track_caller]
    pub fn add(wish: &Wish<'_>) -> Self {
        let pod = Self::create(wish);
        pod.cni("ADD", &[]).ok();
        pod
    }

    /// A CNI call for this pod, with variables and a JSON overlay as `lab pod cni` takes them.
    pub fn cni(&self, verb: &str, more: &[&str]) -> Output {
        let mut arguments = vec!["/lab/pod", "cni", &self.name, verb];
        arguments.extend(more);
        vm(&arguments)
    }

    pub fn place(&self) -> String {
        format!("pod:{}", self.name)
    }

    pub fn nic(&self) -> crate::Nic {
        crate::Nic(if self.host == "host1" { 1 } else { 2 })
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        place(&self.place(), arguments)
    }

    /// Can this pod reach an address? Three pings, a second's patience each.
    pub fn pings(&self, address: &str) -> bool {
        self.run(&["ping", "-n", "-q", "-c", "3", "-i", "0.2", "-W", "1", address]).is_ok()
    }

    /// CNI DEL and all that was made for the pod.
    #[track_caller]
    pub fn delete(mut self) {
        self.gone = true;
        vm(&["/lab/pod", "del", &self.name]).ok();
    }

    /// The same without the CNI call.
    #[track_caller]
    pub fn forget(mut self) {
        self.gone = true;
        vm(&["/lab/pod", "del", &self.name, "--no-cni"]).ok();
    }
}

impl Located for Pod {
    fn place(&self) -> String {
        self.place()
    }

    fn ips(&self) -> [String; 2] {
        [self.ip.clone(), self.ip6.clone()]
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if !self.gone {
            vm(&["/lab/pod", "del", &self.name]);
        }
    }
}
