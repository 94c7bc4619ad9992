//! Typed rows of the databases that we use; every other program declares its own with [`table!`](crate::table).
//!
//! Only the columns that somebody reads. A test holds each against the schema that OVS and OVN ship.

pub mod northbound;
pub mod southbound;
pub mod vswitch;
