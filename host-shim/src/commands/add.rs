//! ADD: asks the NIC, then gives the VF to the pod.
//!
//! The order is what keeps it safe: the record is written before the NIC is asked, the NIC has agreed before an
//! interface moves, and a VF is taken from wherever a killed ADD or DEL left it only once the NIC says whose it is.
//! Whatever fails after that is undone: the VF goes home under its old name and the NIC is told. What could not be undone
//! stays recorded for DEL.
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::{
    agent::{Agent, AgentError},
    args::{Environment, Pod, Sandbox},
    attachment::Attachment,
    commands::remember_name,
    config::Config,
    device::{PciAddress, Sysfs, Vf},
    error::{CniError, Code},
    interface, kubelet,
    netns::{Netns, NetnsError},
    note,
    result::{AddResult, PrevInterface},
    state::{Record, Restorable, StateDir, VfRecord, uptime},
    vf::{self, Found, VfError},
};

/// For the Detach of an ADD that failed: kubelet's two minutes are nearly over by then, and DEL comes next.
const UNDO: Duration = Duration::from_secs(5);

/// What the steps share.
struct Add<'a> {
    config: &'a Config,
    state: StateDir,
    sysfs: Sysfs,
    agent: Agent,
    sandbox: Sandbox,
    pod: Pod,
    netns: Netns,
    deadline: Instant,
}

pub async fn run(environment: &Environment, config: &Config) -> Result<Value, CniError> {
    let sandbox = environment.sandbox()?;
    let pod = environment.pod()?;
    let path = environment.required_netns()?;
    let netns = Netns::open(&path).map_err(|error| match error {
        // Nothing was done yet: the runtime need not clean up.
        NetnsError::Gone { .. } => CniError::new(Code::UnknownContainer, error),
        other => other.into(),
    })?;
    if netns.is(&Netns::current()?) {
        let msg = format!("CNI_NETNS {} is the host's own network namespace: it needs no VF", path.display());
        return Err(CniError::new(Code::InvalidEnvironment, msg));
    }
    let add = Add {
        config,
        state: StateDir::new(&config.state_dir),
        sysfs: Sysfs::new(&config.sysfs),
        agent: Agent::new(&config.access)?,
        sandbox,
        pod,
        netns,
        deadline: Instant::now() + config.timeout,
    };
    let prev = config.prev_result.as_ref();
    let chained = prev.map(|prev| PrevInterface::find(prev, &add.sandbox.interface)).transpose()?.flatten();
    match (prev, chained) {
        (Some(prev), Some(interface)) => add.relay(prev, &interface).await,
        _ => add.attach().await,
    }
}

impl Add<'_> {
    // === the pod's own VF ===

    async fn attach(&self) -> Result<Value, CniError> {
        let known = self.kubelet_devices().await?;
        let claim = self.claim(&known, None)?;
        let attachment = self.ask(&claim).await?;
        match self.give(&claim, &attachment).await {
            Ok(result) => Ok(result.to_json(self.config.version, self.config.prev_result.as_ref())),
            Err(error) => Err(self.undo(&claim, error).await),
        }
    }

    /// The pod's devices according to kubelet, when the configuration does not name the device.
    async fn kubelet_devices(&self) -> Result<Vec<PciAddress>, CniError> {
        match (self.config.device, &self.config.resource) {
            (Some(device), _) => Ok(vec![device]),
            (None, Some(resource)) => {
                Ok(kubelet::devices(&self.config.pod_resources_socket, &self.pod, resource).await?)
            }
            (None, None) => {
                let msg = "no deviceID and no resourceName: the configuration must say which VF; set resourceName to \
                           the device plugin's resource, or let Multus pass deviceID on";
                Err(CniError::new(Code::InvalidConfig, msg))
            }
        }
    }

    /// Chooses the VF and records it, under the lock: two ADDs of one pod must not choose the same.
    fn claim(&self, devices: &[PciAddress], relayed: Option<PciAddress>) -> Result<Claim, CniError> {
        let _lock = self.state.lock()?;
        let records = self.state.list()?;
        let pci = match (relayed, self.config.device) {
            (Some(pci), _) | (None, Some(pci)) => pci,
            (None, None) => {
                // Of this sandbox only: an older sandbox of the pod is dead, or the pod would not have a new one.
                let others = records.iter().filter(|record| {
                    record.sandbox == self.sandbox.id && record.interface != self.sandbox.interface
                });
                let used: Vec<PciAddress> = others.map(|record| record.pci).collect();
                let resource = self.config.resource.as_deref().unwrap_or_default();
                kubelet::choose(devices, &used, &self.pod, resource)?
            }
        };
        let vf = self.sysfs.vf(pci)?;
        let previous = records.iter().find(|record| record.key() == self.sandbox).cloned();
        let superseded: Vec<Record> =
            records.into_iter().filter(|record| record.pci == pci && record.key() != self.sandbox).collect();
        let mut record = Record::new(&self.sandbox, &self.config.name, &self.pod.uid, self.netns.path(), pci);
        let mut found = None;
        if relayed.is_none() {
            self.sysfs.check_driver(pci)?;
            let place = self.locate(pci, previous.iter().chain(&superseded))?;
            // An interface that is on its way says nothing about itself; the record of whoever sent it does.
            let inherited = previous.iter().chain(&superseded).find_map(|record| record.vf.clone());
            let inherited = inherited.filter(|vf| vf.pci == pci);
            let lost = || self.state.lost_name(pci, is_home(&place).then_some(place.link.name.as_str()));
            record.vf = Some(
                inherited.or_else(lost).unwrap_or_else(|| VfRecord::of(pci, &place.link, is_home(&place))),
            );
            record.has_parent = place.link.parent.is_some();
            found = Some(place);
        }
        self.state.save(&record)?;
        Ok(Claim { vf, record, previous, superseded, found })
    }

    fn locate<'r>(
        &self,
        pci: PciAddress,
        records: impl Iterator<Item = &'r Record>,
    ) -> Result<Found, VfError> {
        if let Some(found) = vf::find_at_home(pci, &self.sysfs)? {
            return Ok(found);
        }
        for record in records.filter(|record| record.pci == pci) {
            if let Some(found) = vf::find_away(record, None)? {
                return Ok(found);
            }
        }
        vf::find_anywhere(pci).ok_or(VfError::NotFound(pci))
    }

    /// Asks the NIC. Nothing has moved yet.
    async fn ask(&self, claim: &Claim) -> Result<Attachment, CniError> {
        let patience = self.deadline.saturating_duration_since(Instant::now());
        match self.agent.attach(&self.sandbox, &self.pod, &self.config.name, claim.vf, patience).await {
            Ok(mut attachment) => {
                attachment.mtu = attachment.mtu.or(self.config.mtu);
                Ok(attachment)
            }
            Err(error) => Err(self.retract(claim, error).await),
        }
    }

    /// After a refusal the state is what it was. Without an answer, the NIC may hold the attachment.
    async fn retract(&self, claim: &Claim, error: AgentError) -> CniError {
        let undecided = error.undecided();
        let error = CniError::from(error);
        if undecided && let Err(other) = self.agent.detach(&self.sandbox, UNDO).await {
            return error.with_details(format_args!("and DEL must undo it: {other}"));
        }
        let restored = match &claim.previous {
            Some(previous) if !undecided => self.state.save(previous),
            Some(_) => Ok(()),
            None => self.state.remove(&self.sandbox),
        };
        match restored {
            Ok(()) => error,
            Err(other) => error.with_details(other),
        }
    }

    /// Moves the VF and sets it up.
    async fn give(&self, claim: &Claim, attachment: &Attachment) -> Result<AddResult, CniError> {
        let pci = claim.vf.address;
        let mut record = claim.record.clone();
        record.assigned_mac = Some(attachment.mac.to_string());
        record.restorable = Some(Restorable {
            pf: claim.vf.pf,
            vf: claim.vf.index,
            attachment: attachment.clone(),
            access: self.config.access.clone(),
            sysfs: self.config.sysfs.clone(),
        });
        self.state.save(&record)?;
        let (Some(home), Some(found)) = (&record.vf, &claim.found) else {
            return Err(VfError::NotFound(pci).into());
        };
        let host = Netns::current()?;
        if !found.netns.is(&host) || found.link.name != home.name {
            note(format_args!(
                "VF {pci} was left as {} in {}",
                found.link.name,
                found.netns.path().display()
            ));
        }
        // From wherever it is: a clean start, down, with its own name and MAC.
        let link = vf::bring_home(found, home).await?;
        // The NIC says that the VF is this pod's: a DEL of the sandbox that had it must not take it away again.
        for record in &claim.superseded {
            self.state.remove(&record.key())?;
        }
        let arrived = vf::send(&Found { netns: host, link }, &self.netns, pci).await?;
        record.index = Some(arrived.index);
        self.state.save(&record)?;
        interface::configure(&self.netns, &arrived, &self.sandbox.interface, attachment).await?;
        let observed = interface::confirm(&self.netns, &self.sandbox.interface, attachment).await?;
        self.ended(record)?;
        Ok(AddResult {
            interface: self.sandbox.interface.clone(),
            mac: attachment.mac,
            mtu: observed.mtu,
            sandbox: self.netns.path().display().to_string(),
            pci,
            addresses: attachment.addresses.clone(),
            routes: attachment.routes.clone(),
        })
    }

    /// From here on the runtime knows of it.
    fn ended(&self, mut record: Record) -> Result<(), CniError> {
        record.ended = Some(uptime());
        Ok(self.state.save(&record)?)
    }

    /// Undoes a failed ADD; the error tells what could not be undone.
    async fn undo(&self, claim: &Claim, error: CniError) -> CniError {
        let mut left: Vec<CniError> = Vec::new();
        if let Some(home) = &claim.record.vf
            && let Err(other) = self.take_back(claim, home).await
        {
            left.push(other.into());
        }
        if let Err(other) = self.agent.detach(&self.sandbox, UNDO).await {
            left.push(other.into());
        }
        if left.is_empty()
            && let Err(other) = self.state.remove(&self.sandbox)
        {
            left.push(other.into());
        }
        left.iter().fold(error, |error, other| error.with_details(format_args!("undo: {other}")))
    }

    async fn take_back(&self, claim: &Claim, home: &VfRecord) -> Result<(), VfError> {
        let record = self.state.load(&self.sandbox).ok().flatten().unwrap_or_else(|| claim.record.clone());
        let found = match vf::find_at_home(record.pci, &self.sysfs)? {
            Some(found) => Some(found),
            None => vf::find_away(&record, None)?,
        };
        let found = found.ok_or(VfError::NotFound(record.pci))?;
        let link = vf::bring_home(&found, home).await?;
        remember_name(&self.state, home, Some(&link));
        Ok(())
    }

    // === another plugin's interface ===

    /// The plugin before us has put the VF there: tells the NIC whose it is, and checks that both mean the same.
    async fn relay(&self, prev: &Value, interface: &PrevInterface) -> Result<Value, CniError> {
        let observed = interface::observe(&self.netns, &self.sandbox.interface).await?;
        let Some((link, observed)) = observed else {
            let msg = format!(
                "prevResult names {} in {}, but there is none",
                self.sandbox.interface,
                self.netns.path().display()
            );
            return Err(CniError::new(Code::Mismatch, msg));
        };
        let below = link.parent.as_deref().and_then(|parent| parent.parse().ok());
        let mut pci = self.config.device.or(interface.pci).or(below);
        if pci.is_none()
            && let [only] = self.kubelet_devices().await?.as_slice()
        {
            pci = Some(*only);
        }
        let Some(pci) = pci else {
            let msg = format!("cannot tell which VF is below {}; set deviceID", self.sandbox.interface);
            return Err(CniError::new(Code::Device, msg));
        };
        let claim = self.claim(&[], Some(pci))?;
        let attachment = self.ask(&claim).await?;
        if observed.mac == Some(attachment.mac) {
            self.ended(claim.record)?;
            return Ok(prev.clone());
        }
        let have = observed.mac.map_or_else(|| "none".into(), |mac| mac.to_string());
        let msg = format!(
            "{} has the MAC {have}, the NIC expects {}: the plugin before host-shim must set it",
            self.sandbox.interface, attachment.mac
        );
        Err(self.undo(&claim, CniError::new(Code::Mismatch, msg)).await)
    }
}

/// A VF that was chosen and recorded.
struct Claim {
    vf: Vf,
    record: Record,
    /// What a former ADD for the same interface left.
    previous: Option<Record>,
    /// Records of other sandboxes that had this VF.
    superseded: Vec<Record>,
    /// None: the interface is another plugin's.
    found: Option<Found>,
}

fn is_home(place: &Found) -> bool {
    Netns::current().is_ok_and(|host| place.netns.is(&host))
}
