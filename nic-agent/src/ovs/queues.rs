//! Packets that wait in the kernel for Open vSwitch.
//!
//! A packet that no megaflow matches is put into the netlink socket of one of `ovs-vswitchd`'s handlers (an *upcall*), with
//! the key that it had then. That of an established connection bears `+est` from conntrack, also when its connection is
//! cut while it waits; a handler translates it when its turn comes, as the tables say of established connections: it
//! passes. On a busy switch, that is when the load ends (24 to 28 s, as measured).
//!
//! Nothing counts what a handler takes. But a socket that was seen empty has been left by all that was in it before, and
//! the kernel shows how much is in each: `/proc/net/netlink`, column `Rmem` (`net/netlink/af_netlink.c`,
//! `netlink_seq_show`). Which of them are Open vSwitch's for upcalls its kernel module says ([`upcall::sockets`]): it has
//! others, in which its dumps wait. Where a flood never lets one become empty, that is not had, and nobody says that it was.

use std::collections::BTreeSet;

use offload::netlink::{self, upcall};

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
    #[error(transparent)]
    Kernel(#[from] netlink::Error),
    #[error("looking at the queues: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// Sockets in which something waits, by inode.
pub type Waiting = BTreeSet<u64>;

pub async fn waiting() -> Result<Waiting, QueuesError> {
    tokio::task::spawn_blocking(|| parse(&std::fs::read_to_string(SOCKETS)?, &upcall::sockets()?)).await?
}

/// Of the sockets with these port ids.
fn parse(text: &str, ports: &BTreeSet<u32>) -> Result<Waiting, QueuesError> {
    let mut lines = text.lines().enumerate();
    let header: Vec<&str> =
        lines.next().map(|(_, line)| line.split_whitespace().collect()).unwrap_or_default();
    let column = |name: &str, what| {
        header.iter().position(|it| *it == name).ok_or(QueuesError::Format { line: 1, what })
    };
    let (family, port) = (column("Eth", "no column Eth")?, column("Pid", "no column Pid")?);
    let (waiting, inode) = (column("Rmem", "no column Rmem")?, column("Inode", "no column Inode")?);
    let mut found = Waiting::new();
    for (number, line) in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        let error = |what| QueuesError::Format { line: number + 1, what };
        let word = |column: usize| words.get(column).copied().ok_or_else(|| error("too short"));
        let number = |column| word(column)?.parse::<u64>().map_err(|_| error("no number"));
        let is_upcalls =
            word(family)? == GENERIC && u32::try_from(number(port)?).is_ok_and(|port| ports.contains(&port));
        if is_upcalls && number(waiting)? > 0 {
            found.insert(number(inode)?);
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
    fn what_waits_is_found_in_the_sockets_for_upcalls() {
        let of = |ports: &[u32]| parse(TEXT, &ports.iter().copied().collect()).unwrap();
        assert_eq!(of(&[1234, 4_294_966_001, 4_294_966_002]), [13].into());
        assert!(of(&[]).is_empty(), "a dump's");
    }

    #[test]
    fn what_cannot_be_read_is_not_taken_for_empty() {
        for (text, said) in [
            ("", "line 1: no column Eth"),
            (&TEXT.replace("Rmem", "Room"), "line 1: no column Rmem"),
            (&TEXT.replace("212992", "many"), "line 5: no number"),
            (&TEXT.replace("1300", "some"), "line 6: no number"),
            (
                "sk Eth Pid Groups Rmem Wmem Dump Locks Drops Inode\n0 16 4294966002 00000000\n",
                "line 2: too short",
            ),
        ] {
            let error = parse(text, &[4_294_966_002].into()).unwrap_err().to_string();
            assert!(error.ends_with(said), "{error}");
        }
    }

    #[tokio::test]
    async fn what_this_kernel_says_can_be_read() {
        waiting().await.unwrap();
    }
}
