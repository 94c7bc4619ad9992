//! Many changes as one: an atomic and ordered bundle.
//!
//! OVS leaves a message that it cannot even read out of the bundle and commits the rest all the same, so every part's
//! answer is waited for before the commit.

use std::collections::HashMap;

use offload::openflow::errors::SwitchError;
use offload::openflow::{BundleStep, FlowMod, Message, Xid};

use super::Error;
use super::exchange::{Exchange, unexpected};

/// So many changes are under way at once: enough to keep the switch busy, few enough that it answers in time.
const PART: usize = 512;

pub async fn apply(exchange: &mut Exchange, changes: &[FlowMod]) -> Result<(), Error> {
    let bundle = exchange.next_xid().0;
    step(exchange, bundle, "opening a bundle", BundleStep::Open, BundleStep::Opened).await?;
    let mut sent = HashMap::with_capacity(changes.len());
    if let Err(error) = add_all(exchange, bundle, changes, &mut sent).await {
        // What was added goes with the bundle. Should this fail as well, the switch drops the bundle by itself, after
        // ten seconds or with the connection.
        let _discarded =
            step(exchange, bundle, "dropping a bundle", BundleStep::Discard, BundleStep::Discarded).await;
        return Err(error);
    }
    commit(exchange, bundle, &sent).await
}

async fn step(
    exchange: &mut Exchange,
    bundle: u32,
    what: &'static str,
    ask: BundleStep,
    expect: BundleStep,
) -> Result<(), Error> {
    let xid = exchange.ask(what, &Message::BundleControl { bundle, step: ask })?;
    match exchange.answer(what, xid).await? {
        Message::BundleControl { step, .. } if step == expect => Ok(()),
        other => Err(unexpected(what, &other)),
    }
}

async fn add_all<'a>(
    exchange: &mut Exchange,
    bundle: u32,
    changes: &'a [FlowMod],
    sent: &mut HashMap<Xid, &'a FlowMod>,
) -> Result<(), Error> {
    for part in changes.chunks(PART) {
        let mut bytes = Vec::new();
        for change in part {
            let xid = exchange.next_xid();
            let message = Message::BundleAdd { bundle, change: change.clone() };
            let encoded = message.encode(xid);
            bytes.extend(
                encoded.map_err(|source| Error::Unwritable { change: Box::new(change.clone()), source })?,
            );
            sent.insert(xid, change);
        }
        exchange.send(bytes)?;
        for (xid, reason) in exchange.barrier("adding to a bundle").await? {
            if let Some(error) = refusal(sent, xid, &reason) {
                return Err(error);
            }
        }
    }
    Ok(())
}

fn refusal(sent: &HashMap<Xid, &FlowMod>, xid: Xid, reason: &SwitchError) -> Option<Error> {
    let change = Box::new((*sent.get(&xid)?).clone());
    Some(Error::FlowRefused { change, reason: reason.clone() })
}

/// The commit fails as a whole; which change is at fault the switch says before, under that change's own id.
async fn commit(exchange: &mut Exchange, bundle: u32, sent: &HashMap<Xid, &FlowMod>) -> Result<(), Error> {
    let what = "committing a bundle";
    let xid = exchange.ask(what, &Message::BundleControl { bundle, step: BundleStep::Commit })?;
    let mut culprit = None;
    loop {
        match exchange.next_message(what).await? {
            (got, Message::BundleControl { step: BundleStep::Committed, .. }) if got == xid => return Ok(()),
            (got, Message::Error(reason)) if got == xid => {
                return Err(culprit.unwrap_or(Error::Refused { what, reason }));
            }
            (got, Message::Error(reason)) => culprit = culprit.or_else(|| refusal(sent, got, &reason)),
            (got, other) if got == xid => return Err(unexpected(what, &other)),
            _ => {}
        }
    }
}
