//! The session with the Open_vSwitch database: the replica as a view, and steps as transactions.

use std::collections::BTreeMap;
use std::path::Path;

use ovsdb_session::rows::vswitch::{Bridge, Interface, OpenVSwitch, Port};
use ovsdb_session::{MonitorTable, Options, Remote, RowError, Snapshot, Table, Uuid};

use super::control;
use super::ops::{self, Uuids};
use super::plan::OvsStep;
use super::unixctl::ControlError;
use super::view::{BridgeView, InterfaceView, OvsView, PortView};
use crate::replica::{Outage, Replica};

const DATABASE: &str = "Open_vSwitch";

/// Why a transaction was not made, or not taken.
#[derive(Debug, thiserror::Error)]
pub enum OvsError {
    #[error("the database has no Open_vSwitch row yet")]
    Empty,
    #[error(transparent)]
    Session(#[from] ovsdb_session::Error),
    /// As a recording tells it.
    #[error("{0}")]
    Recorded(String),
}

/// Why the database is not to be seen now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unseen {
    #[error(transparent)]
    Outage(#[from] Outage),
    /// One row that is none of its table's.
    #[error(transparent)]
    Row(#[from] RowError),
    /// As a recording tells it.
    #[error("{0}")]
    Recorded(String),
}

/// The Open_vSwitch database, and ovs-vswitchd's control socket.
pub trait Ovs: Send + Sync + 'static {
    /// The database, or why it is not to be seen now.
    fn view(&mut self) -> Result<OvsView, Unseen>;

    /// Resolves when the view may be another.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;

    /// All of these steps, or none: one transaction. `bump`: `cur_cfg` comes to `next_cfg` when ovs-vswitchd has taken them over.
    fn apply(&mut self, steps: &[OvsStep], bump: bool) -> impl Future<Output = Result<(), OvsError>> + Send;

    /// ovs-vswitchd makes its datapath's flows again. Resolves when all are deleted.
    fn forget_flows(&self, run_dir: &Path)
    -> impl Future<Output = Result<(), ControlError>> + Send + 'static;
}

pub struct OvsLink {
    replica: Replica,
}

impl OvsLink {
    pub fn start(remote: Remote) -> Self {
        let tables = vec![
            MonitorTable::of::<OpenVSwitch>(),
            MonitorTable::of::<Bridge>(),
            MonitorTable::of::<Port>(),
            MonitorTable::of::<Interface>(),
        ];
        Self { replica: Replica::start(Options::new(vec![remote]), DATABASE, tables) }
    }

    /// The database, or why it is not to be seen now.
    pub fn view(&mut self) -> Result<OvsView, Unseen> {
        let snapshot = self.replica.last();
        match self.replica.outage() {
            Some(why) => Err(why.into()),
            None => Ok(view(&snapshot)?),
        }
    }

    /// Resolves when the view may be another.
    pub async fn changed(&mut self) {
        self.replica.changed().await;
    }
}

impl Ovs for OvsLink {
    fn view(&mut self) -> Result<OvsView, Unseen> {
        Self::view(self)
    }

    async fn changed(&mut self) {
        Self::changed(self).await;
    }

    async fn apply(&mut self, steps: &[OvsStep], bump: bool) -> Result<(), OvsError> {
        let uuids = {
            let snapshot = self.replica.monitor.snapshot();
            let root = snapshot.table(OpenVSwitch::NAME).next().map(|(uuid, _)| uuid);
            let ports =
                snapshot.rows::<Port>().filter_map(Result::ok).map(|port| (port.name, port.uuid)).collect();
            Uuids { root: root.ok_or(OvsError::Empty)?, ports }
        };
        let ops = ops::operations(steps, bump, &uuids);
        if !ops.is_empty() {
            self.replica.session.transact(DATABASE, ops).await?;
        }
        Ok(())
    }

    fn forget_flows(
        &self,
        run_dir: &Path,
    ) -> impl Future<Output = Result<(), ControlError>> + Send + 'static {
        let run_dir = run_dir.to_owned();
        async move { control::forget_flows(&run_dir).await }
    }
}

fn view(snapshot: &Snapshot) -> Result<OvsView, RowError> {
    let mut view = OvsView::default();
    let mut ports: BTreeMap<Uuid, Port> = BTreeMap::new();
    for port in snapshot.rows::<Port>() {
        let port = port?;
        ports.insert(port.uuid, port);
    }
    let mut interfaces: BTreeMap<Uuid, InterfaceView> = BTreeMap::new();
    for row in snapshot.rows::<Interface>() {
        let row = row?;
        let interface = InterfaceView {
            kind: row.kind,
            options: row.options,
            external_ids: row.external_ids,
            ofport_request: row.ofport_request,
            ofport: row.ofport,
            ifindex: row.ifindex,
            error: row.error,
        };
        interfaces.insert(row.uuid, interface);
    }
    if let Some(root) = snapshot.rows::<OpenVSwitch>().next() {
        let root = root?;
        view.external_ids = root.external_ids;
        view.other_config = root.other_config;
        view.ovs_version = root.ovs_version.unwrap_or_default();
        (view.next_cfg, view.cur_cfg) = (root.next_cfg, root.cur_cfg);
    }
    for bridge in snapshot.rows::<Bridge>() {
        let bridge = bridge?;
        let ports = bridge
            .ports
            .iter()
            .filter_map(|uuid| ports.get(uuid))
            .map(|port| {
                let mut members = port.interfaces.iter().filter_map(|uuid| interfaces.get(uuid));
                let interface = match (members.next(), members.next()) {
                    (Some(only), None) => Some(only.clone()),
                    _ => None,
                };
                (port.name.clone(), PortView { interface })
            })
            .collect();
        let row = BridgeView {
            fail_mode: bridge.fail_mode,
            datapath_type: bridge.datapath_type,
            protocols: bridge.protocols.into_iter().collect(),
            external_ids: bridge.external_ids,
            other_config: bridge.other_config,
            ports,
        };
        view.bridges.insert(bridge.name, row);
    }
    Ok(view)
}
