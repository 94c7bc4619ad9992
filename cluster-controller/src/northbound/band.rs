//! A Meter's band: how much it lets pass.
//!
//! OVSDB keeps a `Meter_Band` only while a Meter refers to it, and takes no Meter without one. So a band is a part of its
//! Meter: it has no [`Key`](super::Key), and is written with the Meter, in one transaction. One that is not as it shall be is
//! replaced, and gone when nothing refers to it.

use std::num::NonZeroU32;

use ovsdb_session::op::Insert;
use ovsdb_session::{Atom, Datum, MonitorTable, Op, Row, Rows};

use super::{OWNER, OWNER_VALUE};

pub const TABLE: &str = "Meter_Band";

/// Packets a second, of the Meter's unit; in one moment as many as in a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Band {
    pub rate: NonZeroU32,
}

impl Band {
    fn columns(self) -> [(&'static str, Datum); 3] {
        let rate = self.rate.get();
        [("action", "drop".into()), ("rate", rate.into()), ("burst_size", rate.into())]
    }

    /// Is this such a band, and ours?
    pub fn is(self, row: &Row) -> bool {
        let owner = row.get("external_ids").and_then(|marks| marks.value_of(&Atom::from(OWNER)));
        owner.and_then(Atom::as_str) == Some(OWNER_VALUE)
            && self.columns().iter().all(|(column, value)| row.get(column) == Some(value))
    }

    pub fn insert(self) -> Insert {
        let marked = Op::insert(TABLE).set("external_ids", Datum::map([(OWNER, OWNER_VALUE)]));
        self.columns().into_iter().fold(marked, |insert, (column, value)| insert.set(column, value))
    }
}

pub fn monitored() -> MonitorTable {
    MonitorTable {
        name: TABLE.to_owned(),
        columns: ["action", "rate", "burst_size", "external_ids"].map(str::to_owned).to_vec(),
        conditions: Rows::All,
    }
}
