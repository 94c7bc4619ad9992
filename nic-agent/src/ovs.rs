//! The Open_vSwitch database: what is wanted, what is seen, and the steps between; and the daemons' control sockets.

pub mod control;
pub mod daemons;
pub mod datapath;
pub mod link;
pub mod ops;
pub mod plan;
pub mod queues;
pub mod restore;
pub mod spec;
pub mod unixctl;
pub mod view;
