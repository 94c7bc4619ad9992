//! Packets that wait in the kernel for Open vSwitch.
//!
//! A packet that no megaflow matches is put into the netlink socket of one of `ovs-vswitchd`'s handlers (an *upcall*), with
//! the key that it had then. That of an established connection bears `+est` from conntrack, also when its connection is
//! cut while it waits; a handler translates it when its turn comes, as the tables say of established connections: it
//! passes. On a busy switch, that is when the load ends (24 to 28 s, as measured).
//!
//! Nothing counts what a handler takes. But a socket that was seen empty has been left by all that was in it before, and
//! the kernel shows how much is in each: `/proc/net/netlink`, column `Rmem` (`net/netlink/af_netlink.c`,
//! `netlink_seq_show`). It does not show whose they are, so every socket of generic netlink counts that belongs to no
//! multicast group: an upcall's never does (`dpif-netlink.c`). Where a flood never lets one become empty, that is not had,
//! and nobody says that it was.

use std::collections::BTreeSet;
use std::path::Path;

/// Of this process' network namespace, which is Open vSwitch's.
const SOCKETS: &str = "/proc/self/net/netlink";
/// `NETLINK_GENERIC`, in the column of that name.
const GENERIC: &str = "16";

#[derive(Debug, thiserror::Error)]
pub enum QueuesError {
    #[error("{SOCKETS}: {0}")]
    Read(#[from] std::io::Error),
    #[error("{SOCKETS}: line {line}: {what}")]
    Format { line: usize, what: &'static str },
}

/// Sockets in which something waits, by inode.
pub type Waiting = BTreeSet<u64>;

pub async fn waiting() -> Result<Waiting, QueuesError> {
    parse(&tokio::fs::read_to_string(Path::new(SOCKETS)).await?)
}

fn parse(text: &str) -> Result<Waiting, QueuesError> {
    let mut lines = text.lines().enumerate();
    let header: Vec<&str> =
        lines.next().map(|(_, line)| line.split_whitespace().collect()).unwrap_or_default();
    let column = |name: &'static str, what| {
        header.iter().position(|it| *it == name).ok_or(QueuesError::Format { line: 1, what })
    };
    let (family, groups) = (column("Eth", "no column Eth")?, column("Groups", "no column Groups")?);
    let (waiting, inode) = (column("Rmem", "no column Rmem")?, column("Inode", "no column Inode")?);
    let mut found = Waiting::new();
    for (number, line) in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let short = || QueuesError::Format { line: number + 1, what: "too short" };
        let word = |column: usize| words.get(column).copied().ok_or_else(short);
        let no_number = |_| QueuesError::Format { line: number + 1, what: "no number" };
        let listens = word(groups)?.bytes().any(|digit| digit != b'0');
        if word(family)? == GENERIC && !listens && word(waiting)?.parse::<u64>().map_err(no_number)? > 0 {
            found.insert(word(inode)?.parse().map_err(no_number)?);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode
0000000000000000 0   1234       00000000 512      0        0     2        0        10
0000000000000000 16  0          00000000 0        0        0     2        0        11
0000000000000000 16  4294966001 00000000 0        0        0     2        0        12
0000000000000000 16  4294966002 00000000 212992   0        0     2        977      13
0000000000000000 16  1300       00000020 4096     0        0     2        0        14
";

    #[test]
    fn what_waits_is_found_in_generic_sockets_that_listen_to_no_group() {
        assert_eq!(parse(TEXT).unwrap(), [13].into());
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_empty() {
        for (text, said) in [
            ("", "line 1: no column Eth"),
            (&TEXT.replace("Rmem", "Room"), "line 1: no column Rmem"),
            (&TEXT.replace("212992", "many"), "line 5: no number"),
            ("sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode\n0 16 5 00000000\n", "line 2: too short"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.ends_with(said), "{error}");
        }
    }

    #[tokio::test]
    async fn what_this_kernel_says_can_be_read() {
        waiting().await.unwrap();
    }
}
