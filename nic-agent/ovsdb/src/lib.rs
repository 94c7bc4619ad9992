//! An OVSDB client session: RFC 7047 with the extensions of ovsdb-server(7).
//!
//! Owns one connection to one of several remotes ([`Remote`]), its transactions ([`Session::transact`]) and the
//! replicas of whatever is monitored ([`Session::monitor`]). It knows no particular database: the typed rows in
//! [`rows`] are a convenience on top, and [`table!`] makes more of them.
//!
//! What it never does: retry a transaction (only the caller knows whether that is right), hold a lock, validate a
//! write against the schema (the server does), check a TLS server's *name* (see [`tls`]).
//!
//! ```text
//!  Session (clones) ──Command──► task ──► Outbox ──► socket ──► ovsdb-server
//!  Monitor (clones) ──┘           │ ◄── Framer ◄──────┘
//!                                 ├─► watch<State>
//!                                 └─► Replica ──► watch<Snapshot>   (one per Monitor)
//! ```
//!
//! Failure behaviour: a lost connection fails every call under way with [`Error::Lost`], whose outcome is unknown;
//! calls made while there is none fail at once with [`Error::NotConnected`]. Monitors keep their last rows, say
//! `connected: false`, and go on after the reconnection, with the difference only. A message that is oversize, no
//! JSON or contradicts the replica costs the connection, never the process.
//!
//! A member of a cluster that is cut off from the others is left for the next remote, as OVS's own clients leave it: while
//! something is monitored, the server's database `_Server` is, too. It is no server until it has said that it is in good
//! standing, so nothing stale is seen.
//!
//! Not announced to the server is `set_db_change_aware`: so it drops us when a database is added, removed or
//! converted, and we come back with a fresh schema. That is the simplest way to be right about all three.
//!
//! Sources: RFC 7047; ovsdb-server(7), "Database Protocol Extensions"; OVS 3.5 `ovsdb/monitor.c`,
//! `ovsdb/jsonrpc-server.c`, `lib/ovsdb-cs.c`, `lib/ovsdb-data.c` (`ovsdb_datum_diff`).
#![forbid(unsafe_code)]

mod command;
pub mod datum;
mod entry;
pub mod frame;
pub mod monitor;
mod monitor_table;
pub mod op;
pub mod remote;
pub mod replica;
pub mod row;
pub mod rows;
pub mod rpc;
pub mod schema;
pub mod session;
pub mod snapshot;
pub mod tls;
mod transport;

pub use command::Error;
pub use datum::{Atom, Datum, NamedUuid};
pub use monitor::Monitor;
pub use monitor_table::{MonitorTable, Rows};
pub use op::{Condition, Mutation, Op, OpError, OpResult};
pub use remote::Remote;
pub use row::{Row, RowError, Table};
pub use schema::DatabaseSchema;
pub use session::{Options, Session, State};
pub use snapshot::{Change, Snapshot};
pub use tls::TlsFiles;
pub use uuid::Uuid;
